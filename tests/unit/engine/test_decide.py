"""What comes next in a run, from its record alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mcpops.core.errors import ExitCode
from mcpops.engine.decide import End, decide, to_do_again, to_undo
from mcpops.model.outcome import Outcome, Result
from mcpops.model.run import Attempt, RunState, StepRecord, StepState
from mcpops.model.step import Step, StepKind

AT = datetime(2026, 11, 24, tzinfo=UTC)


def record(seq: int, state: str, *, kind: str = "play", outcome: str | None = None, undo=False, commits=False):
    step = Step(name=f"s{seq}", kind=StepKind(kind), hosts="all", body="", line=1, undo=undo, commits=commits)
    tried = state not in ("pending", "waiting")
    attempts = (
        (Attempt(number=1, fence=1, intent_at=AT, outcome=Outcome(outcome) if outcome else None, reason="because"),)
        if tried
        else ()
    )
    return StepRecord(seq=seq, step=step, state=StepState(state), attempts=attempts)


def test_no_steps_is_unknown_and_never_done():
    assert decide([]) == End(RunState.FAILED, ExitCode.UNKNOWN, "the runbook has no steps")


def test_the_first_step_that_is_not_done_is_next():
    steps = [record(1, "done"), record(2, "pending"), record(3, "pending")]

    assert decide(steps) is steps[1]


@pytest.mark.parametrize("state", ["running", "waiting"])
def test_an_interrupted_or_waiting_step_is_next(state):
    steps = [record(1, "done"), record(2, state), record(3, "pending")]

    assert decide(steps) is steps[1]


def test_all_done_is_done():
    assert decide([record(1, "done")]) == End(RunState.DONE, ExitCode.OK)


@pytest.mark.parametrize(
    ("state", "outcome", "code"),
    [
        ("failed", "failed", ExitCode.FAILED),
        ("failed", "unreachable", ExitCode.UNKNOWN),
        ("unknown", "unknown", ExitCode.UNKNOWN),
    ],
)
def test_a_failure_without_undo_ends_the_run_and_skips_the_rest(state, outcome, code):
    end = decide([record(1, state, outcome=outcome), record(2, "pending")])

    assert end == End(RunState.FAILED, code, "step s1: because")


def test_after_a_failure_only_undo_steps_follow():
    steps = [record(1, "failed", outcome="failed"), record(2, "pending"), record(3, "pending", kind="undo")]

    assert decide(steps) is steps[2]


def test_all_undone_is_rolled_back():
    steps = [record(1, "failed", outcome="failed"), record(2, "pending"), record(3, "done", kind="undo", outcome="ok")]

    end = decide(steps)

    assert isinstance(end, End)
    assert (end.state, end.exit_code) == (RunState.ROLLED_BACK, ExitCode.ROLLED_BACK)


def test_a_failed_undo_is_broken_and_stops_the_other_undos():
    steps = [
        record(1, "failed", outcome="failed"),
        record(2, "failed", kind="undo", outcome="failed"),
        record(3, "pending", kind="undo"),
    ]

    end = decide(steps)

    assert isinstance(end, End)
    assert (end.state, end.exit_code) == (RunState.BROKEN, ExitCode.BROKEN)
    assert "s2 failed too" in end.reason


def test_undo_takes_back_the_last_first_and_the_failed_step_itself():
    steps = [record(1, "done", undo=True), record(2, "done"), record(3, "failed", undo=True), record(4, "pending")]

    assert [r.seq for r in to_undo(steps, steps[2])] == [3, 1]


def test_nothing_is_taken_back_once_a_step_that_commits_is_done():
    steps = [record(1, "done", undo=True), record(2, "done", commits=True), record(3, "failed", undo=True)]

    assert to_undo(steps, steps[2]) == []


def test_a_failing_step_that_commits_is_no_commit():
    steps = [record(1, "done", undo=True), record(2, "failed", commits=True)]

    assert [r.seq for r in to_undo(steps, steps[1])] == [1]


def test_a_gate_that_is_asked_again_takes_back_what_came_after_it():
    steps = [record(1, "failed"), record(2, "done", undo=True), record(3, "running", undo=True), record(4, "pending")]

    assert [r.seq for r in to_undo(steps, steps[0])] == [3, 2]


def gate(seq: int, state: str, name: str):
    made = record(seq, state)
    return replace(made, step=replace(made.step, gate=name, kind=StepKind.GATE))


def test_a_resume_does_nothing_again_that_has_a_good_outcome():
    assert to_do_again([record(1, "done"), record(2, "running"), record(3, "pending")]) == []
    assert to_do_again([gate(1, "pending", "freeze"), record(2, "pending")]) == []


@pytest.mark.parametrize(
    ("rest", "again"),
    [
        ([record(2, "running")], [1]),
        ([record(2, "pending")], [1]),
        ([gate(2, "pending", "backup_age"), record(3, "pending")], [1]),
        ([gate(2, "waiting", "approval"), record(3, "pending")], []),
        ([record(2, "done"), gate(3, "pending", "approval"), record(4, "pending")], []),
        ([record(2, "done", commits=True), record(3, "pending")], []),
        ([record(2, "failed"), record(3, "pending", kind="undo")], []),
        ([record(2, "done")], []),
    ],
)
def test_a_freeze_gate_is_asked_again_before_more_is_done(rest, again):
    assert [r.seq for r, _ in to_do_again([gate(1, "done", "freeze"), *rest])] == again


def test_an_undo_that_failed_is_tried_again_and_those_that_wait_are_left_alone():
    steps = [
        record(1, "failed"),
        record(2, "unknown", kind="undo"),
        record(3, "pending", kind="undo"),
        record(4, "done", kind="undo"),
    ]

    assert [r.seq for r, _ in to_do_again(steps)] == [2]


@pytest.mark.parametrize(("task", "code"), [("freeze", 9), ("backup_age", 9), ("approval", 1)])
def test_a_safety_rule_refuses_and_a_person_s_no_is_a_failure(task, code):
    said = (Result(host="control", task=task, outcome=Outcome.FAILED),)

    end = decide([replace(gate(1, "failed", "approval"), results=said)])

    assert isinstance(end, End)
    assert (end.state, end.exit_code) == (RunState.FAILED, code)


def test_a_failed_undo_takes_nothing_back():
    steps = [record(1, "failed", undo=True), record(2, "failed", kind="undo")]

    assert to_undo(steps, steps[1]) == []
