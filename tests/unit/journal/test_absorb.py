"""Rollbacks that were done without the journal become runs of it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from mcpops.core.clock import to_text
from mcpops.core.errors import ExitCode
from mcpops.journal.absorb import PATIENCE, absorb
from mcpops.model.outcome import Outcome
from tests.unit.engine.stand import Stand, step


def told(stand, **changes) -> dict:
    at = to_text(stand.clock.at)
    row = {"state": "done", "started_at": at, "duration_s": 0.2, "outputs": {"release": "r1"}}
    row["results"] = [
        {"host": "h", "task": "activate", "outcome": "changed", "message": "", "duration_ms": 5, "ignored": False}
    ]
    return {
        "id": "roll-1", "environment": "lab", "runbook": "rollback", "state": "done", "plan_digest": "sha256:1",
        "parameters": {}, "requested_by": "ada", "started_at": at, "ended_at": at, "exit_code": 0, "reason": "",
        "fence": 99, "steps": [row],
    } | changes  # fmt: skip


@pytest.fixture
def stand(tmp_path):
    return Stand(tmp_path, {})


def put(tmp_path, record) -> list:
    path = tmp_path / f"{record['id']}.json"
    path.write_text(json.dumps(record))
    return [path]


def test_a_rollback_is_taken_in_once_and_verifies(stand, tmp_path):
    files = put(tmp_path, told(stand))

    assert absorb(stand.store, stand.clock, files) == ["roll-1"]
    assert absorb(stand.store, stand.clock, files) == []

    run = stand.journal.run("roll-1")
    assert (run.state, run.exit_code) == ("done", 0)
    assert [result.outcome for result in run.steps[0].results] == [Outcome.CHANGED]
    assert stand.journal.integrity("roll-1")[1] is None


def test_the_next_run_outranks_the_rollback_whatever_the_clock_says(stand, tmp_path):
    far = 10**15

    absorb(stand.store, stand.clock, put(tmp_path, told(stand, fence=far)))

    assert stand.begin(step("one")).lease.fence == far + 1


def test_a_lease_in_force_keeps_its_number(stand, tmp_path):
    writer = stand.begin(step("one"))

    absorb(stand.store, stand.clock, put(tmp_path, told(stand, fence=10**15)))

    writer.renew()


def test_a_killed_rollback_is_unknown_after_a_while_and_not_before(stand, tmp_path):
    files = put(tmp_path, told(stand, state="running", ended_at=None, exit_code=None))

    assert absorb(stand.store, stand.clock, files) == []
    stand.clock.at += PATIENCE + timedelta(seconds=1)
    assert absorb(stand.store, stand.clock, files) == ["roll-1"]

    assert stand.journal.run("roll-1").exit_code == ExitCode.UNKNOWN


def test_a_file_that_is_no_record_is_left_alone(stand, tmp_path):
    path = tmp_path / "notes.json"
    path.write_text("{")

    assert absorb(stand.store, stand.clock, [path]) == []
    assert path.exists()
