"""The story of a run, and its JSON."""

from __future__ import annotations

import pytest

from mcpops.cli.show import first_failure, run_json, run_story, what_now
from mcpops.core.clock import to_text
from mcpops.engine.execution import GateWaits
from mcpops.journal.writes import queue
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.step import StepKind
from tests.people import decides
from tests.unit.engine.stand import CHANGED, FAILED, Stand, request, step


@pytest.fixture
def stand(tmp_path):
    return Stand(tmp_path, {})


def test_the_story_says_what_failed_first_and_what_was_taken_back(stand):
    row = Result(host="front2", task="Pull the image", outcome=Outcome.FAILED, message="no such digest")
    stand.script["stage"] = AttemptReport(outcome=Outcome.FAILED, reason="Pull the image on front2", results=(row,))
    stand.drive(stand.begin(step("look"), step("stage", undo=True), step("switch")))

    story = run_story(stand.journal, stand.journal.run("run-1"))

    assert "rolled_back after" in story
    assert "front2: Pull the image: failed: no such digest" in story
    assert "↩✓  4 undo stage" in story
    assert "verified" in story


def test_the_json_has_the_shape_of_the_contract(stand):
    stand.script["one"] = CHANGED
    stand.drive(stand.begin(step("one")))

    told = run_json(stand.journal, stand.journal.run("run-1"))

    assert {"schema", "id", "environment", "runbook", "plan_digest", "state", "requested_by", "started_at", "ended_at",
            "duration_s", "steps", "record"} <= set(told)  # fmt: skip
    assert {"seq", "name", "kind", "state", "attempts", "started_at", "duration_s", "hosts", "outputs",
            "results"} <= set(told["steps"][0])  # fmt: skip
    assert told["steps"][0]["hosts"] == {"ok": 0, "changed": 1, "failed": 0, "unreachable": 0}
    assert told["record"]["verified"] is True


def test_a_run_that_waits_says_how_to_go_on(stand):
    stand.script["prepare gate"] = GateWaits("approval")
    stand.drive(stand.begin(step("gate", kind=StepKind.GATE, gate="approval")))

    assert "mcpops approve run-1" in what_now(stand.journal.run("run-1"))


def test_a_broken_run_says_how_to_get_out(stand):
    stand.script |= {"one": FAILED, "undo one": FAILED}
    stand.drive(stand.begin(step("one", undo=True)))

    told = what_now(stand.journal.run("run-1"))

    assert "mcpops rollback --sync" in told
    assert "mcpops runs abandon run-1 --yes" in told
    assert stand.journal.locked_by("lab") == "run-1"


def test_the_story_says_what_changed_where_and_what_failed_first(tmp_path):
    stand = Stand(tmp_path, {})
    rows = (
        Result(host="h1", task="copy", outcome=Outcome.CHANGED),
        Result(host="h2", task="copy", outcome=Outcome.CHANGED),
        Result(host="h1", task="look", outcome=Outcome.OK),
    )
    stand.script["one"] = AttemptReport(outcome=Outcome.CHANGED, results=rows)
    bad = Result(host="h2", task="start", outcome=Outcome.FAILED, message="port in use")
    stand.script["two"] = AttemptReport(outcome=Outcome.FAILED, reason="start on h2: port in use", results=(bad,))
    stand.drive(stand.begin(step("one"), step("two"), step("three")))

    run = stand.journal.run("run-1")
    story = run_story(stand.journal, run)

    assert "changed: copy (h1, h2)" in story
    assert "failed first: step two, start on h2: port in use" in story
    assert f"asked for by ada at {to_text(run.started_at)}" in story
    assert first_failure(run) == {"step": "two", "host": "h2", "task": "start", "message": "port in use"}


def test_the_story_says_who_decided_and_until_when(tmp_path):
    stand = Stand(tmp_path, {"prepare gate": GateWaits("approval")})
    stand.drive(stand.begin(step("gate", kind=StepKind.GATE, gate="approval")))
    decides(stand, by="grace")

    assert "approve by grace at 2026-11-24T" in run_story(stand.journal, stand.journal.run("run-1"))


def test_a_run_that_nobody_began_yet_says_who_will(tmp_path):
    stand = Stand(tmp_path, {})
    queue(stand.store, stand.clock, "run-1", request(step("one")), b"")

    assert "mcpops worker" in what_now(stand.journal.run("run-1"))
