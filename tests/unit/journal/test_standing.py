"""A run that ended meanwhile: whoever read it before must not act on what it was."""

from __future__ import annotations

import pytest

from mcpops.core.errors import Busy, Refused, UsageError
from mcpops.engine.execution import GateWaits
from mcpops.journal.abandon import abandon
from mcpops.journal.approvals import decide
from mcpops.journal.writes import RunWriter
from mcpops.model.run import RunState
from mcpops.model.step import StepKind
from tests.people import signed
from tests.unit.engine.stand import Stand, crash, step

GATE = step("gate", kind=StepKind.GATE, gate="approval")


@pytest.fixture
def stand(tmp_path):
    return Stand(tmp_path, {})


def give_up(stand, run):
    abandon(stand.store, stand.clock, run, by="grace", reason="enough")


def waiting(stand):
    """A run that waits for an approval, as it was read."""
    stand.script["prepare gate"] = GateWaits("approval")
    stand.drive(stand.begin(GATE, step("cutover")))
    del stand.script["prepare gate"]
    return stand.journal.run("run-1")


def take_over(stand):
    return RunWriter.take_over(stand.store, stand.clock, "lab", "run-1")


def test_a_run_that_ended_meanwhile_is_not_given_up(stand):
    run = waiting(stand)
    stand.drive(take_over(stand))

    with pytest.raises(UsageError, match="run-1 is done"):
        give_up(stand, run)

    ended = stand.journal.run("run-1")
    assert (ended.state, ended.exit_code) == (RunState.DONE, 0)


def test_a_run_that_was_given_up_meanwhile_is_not_taken_over(stand):
    give_up(stand, waiting(stand))

    with pytest.raises(UsageError, match="run-1 is abandoned") as caught:
        take_over(stand)

    assert caught.value.hint
    assert stand.acted() == []
    assert stand.journal.lease("lab") is None
    assert stand.journal.run("run-1").state is RunState.ABANDONED


def test_a_run_that_was_given_up_meanwhile_is_not_decided(stand):
    run = waiting(stand)
    said = signed(run, None, stand.clock, by="grace")
    give_up(stand, run)

    with pytest.raises(UsageError, match="run-1 is abandoned"):
        decide(stand.store, run, said)

    assert stand.journal.decision("run-1", 1) is None


def test_a_gate_that_was_passed_meanwhile_is_not_decided(stand):
    run = waiting(stand)
    said = signed(run, None, stand.clock, by="grace")
    stand.script["cutover"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        stand.drive(take_over(stand))

    with pytest.raises(UsageError, match="waits for no decision"):
        decide(stand.store, run, said)


def test_the_requester_of_a_run_that_waits_is_refused_and_of_one_that_ended_told_so(stand):
    run = waiting(stand)
    said = signed(run, None, stand.clock, by=run.requested_by)
    with pytest.raises(Refused):
        decide(stand.store, run, said)
    give_up(stand, run)

    with pytest.raises(UsageError):
        decide(stand.store, run, said)


def test_a_run_that_goes_on_does_not_say_how_it_stopped_before(stand):
    assert waiting(stand).exit_code == 6
    stand.script["cutover"] = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        stand.drive(take_over(stand))

    run = stand.journal.run("run-1")
    assert (run.state, run.exit_code, run.reason, run.ended_at) == (RunState.RUNNING, None, "", None)
    assert stand.journal.integrity("run-1")[1] is None


def test_a_run_that_is_not_there_is_not_taken_over(stand):
    with pytest.raises(UsageError, match="no run 'run-1'"):
        take_over(stand)


def test_a_run_that_runs_is_not_given_up_and_one_that_was_interrupted_is(stand):
    writer = stand.begin(step("one"))
    with pytest.raises(Busy):
        give_up(stand, stand.journal.run("run-1"))
    crash(stand, writer)

    give_up(stand, stand.journal.run("run-1"))

    run = stand.journal.run("run-1")
    assert (run.state, run.reason) == (RunState.ABANDONED, "abandoned by grace: enough")
    assert stand.journal.integrity("run-1")[1] is None
