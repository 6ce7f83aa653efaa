"""The lease while a step runs: who cannot renew it stops in time, and the run can be resumed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from mcpops.ansible import play
from mcpops.core.errors import ExitCode, Fenced
from mcpops.engine import heartbeat
from mcpops.journal import store as store_module
from mcpops.journal.lease import LEASE_S
from mcpops.journal.store import Store
from mcpops.journal.trouble import Unavailable
from mcpops.journal.writes import RunWriter
from mcpops.model.run import RunState, StepState
from tests.unit.engine.stand import CHANGED, UNKNOWN, Stand, crash, step


@pytest.fixture
def stand(tmp_path):
    return Stand(tmp_path, {})


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(heartbeat, "PERIOD_S", 0.01)
    monkeypatch.setattr(heartbeat, "RETRY_S", 0.01)


def out_of_reach(stand, writer):
    """Let no renewal succeed; each takes ten seconds."""

    def renew():
        stand.clock.at += timedelta(seconds=10)
        raise Unavailable("the journal is in use by another process")

    writer.renew = renew


def until_cancelled(context):
    assert context.cancel.wait(20), "the step was not cancelled within 20 s"
    return UNKNOWN


def test_a_journal_that_was_away_too_long_leaves_a_run_that_can_be_resumed(stand, quick):
    writer = stand.begin(step("one", undo=True), step("two"))
    out_of_reach(stand, writer)
    stand.script["one"] = until_cancelled

    with pytest.raises(Fenced, match="could not be renewed in time") as caught:
        stand.drive(writer)

    assert "mcpops runs resume run-1" in caught.value.hint
    run = stand.journal.run("run-1")
    assert (run.state, run.steps[0].state) == (RunState.RUNNING, StepState.RUNNING)
    assert [record.step.name for record in run.steps] == ["one", "two"], "a step that was cancelled has not failed"

    crash(stand, writer)
    stand.script["one"] = CHANGED
    end = stand.drive(RunWriter.take_over(stand.store, stand.clock, "lab", "run-1"))
    assert end.exit_code is ExitCode.OK
    assert stand.journal.integrity("run-1")[1] is None


def test_nothing_more_is_begun_once_the_lease_could_not_be_renewed(stand, quick):
    """Also when the step itself went well, as one that hears no cancel does."""
    writer = stand.begin(step("one"), step("two"))
    out_of_reach(stand, writer)

    def well(context):
        until_cancelled(context)
        return CHANGED

    stand.script["one"] = well

    with pytest.raises(Fenced):
        stand.drive(writer)

    assert stand.acted() == ["one"]


def test_a_probe_that_was_cancelled_for_the_lease_says_nothing(stand, quick):
    writer = stand.begin(step("one"), step("two"))
    stand.script["one"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        stand.drive(writer)
    crash(stand, writer)
    again = RunWriter.take_over(stand.store, stand.clock, "lab", "run-1")
    out_of_reach(stand, again)
    stand.script["probe one"] = until_cancelled

    with pytest.raises(Fenced):
        stand.drive(again)

    assert stand.acted() == ["one", "one"], "the step, and its probe"


def test_a_renewal_that_fails_once_is_tried_again_and_stops_nothing(stand, quick):
    writer = stand.begin(step("one"))
    renew, failed = writer.renew, []

    def flaky():
        if not failed:
            failed.append(1)
            raise Unavailable("the journal is in use by another process")
        renew()
        failed.append(2)

    writer.renew = flaky

    def wait(context):
        assert not context.cancel.wait(0.2)
        return CHANGED

    stand.script["one"] = wait

    assert stand.drive(writer).exit_code is ExitCode.OK
    assert failed[:2] == [1, 2]


def test_a_renewal_does_not_wait_as_long_as_other_writers(stand, monkeypatch):
    monkeypatch.setattr(store_module, "HURRIED_MS", 50)
    writer = stand.begin(step("one"))
    writer.store = Store(stand.store.path)

    with closing(sqlite3.connect(stand.store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            writer.renew()


def test_the_step_is_ended_while_the_lease_still_forbids_others_to_start():
    """A renewal that just began, the next try, its wait for the journal, and the end of Ansible's processes."""
    hurried_s = store_module.HURRIED_MS / 1000
    worst_s = heartbeat.PATIENCE_S + heartbeat.RETRY_S + hurried_s + play._STOP_S

    assert worst_s < LEASE_S
    assert heartbeat.PERIOD_S + hurried_s < heartbeat.PATIENCE_S, "one failed renewal is not enough to give up"
