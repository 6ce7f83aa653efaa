"""A worker's loop: what it cannot begin stands in nobody's way."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from mcpops.core.errors import Busy, UsageError
from mcpops.engine.dispatch import SET_ASIDE_S, Dispatcher
from mcpops.journal.trouble import Unavailable
from mcpops.journal.writes import RunWriter, queue
from tests.unit.engine.stand import Stand, request, step


@pytest.fixture
def stand(tmp_path):
    stand = Stand(tmp_path, {})
    for run_id, environment in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        queue(stand.store, stand.clock, run_id, request(step("one"), environment=environment), b"")
    return stand


class Drives:
    """Drives a run as a worker does; raises what a test says of its id."""

    def __init__(self, stand, **troubles) -> None:
        self.stand, self.troubles, self.done, self.said = stand, troubles, [], []
        self.dispatcher = Dispatcher(stand.store, stand.clock, self, self.said.append)

    def __call__(self, run_id: str) -> None:
        if run_id in self.troubles:
            raise self.troubles[run_id]
        environment = self.stand.journal.run(run_id).environment
        self.stand.drive(RunWriter.take_over(self.stand.store, self.stand.clock, environment, run_id))
        self.done.append(run_id)


def drain(drives: Drives) -> list[str]:
    while drives.dispatcher.step():
        pass
    return drives.done


def test_all_that_may_run_is_driven_in_order(stand):
    assert drain(Drives(stand)) == ["a1", "a2", "b1"]


def test_what_cannot_be_begun_is_set_aside_and_the_rest_goes_on(stand):
    drives = Drives(stand, a1=UsageError("a file is missing", detail="x.yml"))

    assert drain(drives) == ["a2", "b1"]
    assert drives.said == ["run a1 is set aside: a file is missing: x.yml"]
    drives.troubles.clear()
    assert drain(drives) == ["a2", "b1"], "not before its time"
    stand.clock.at += timedelta(seconds=SET_ASIDE_S + 1)
    assert drain(drives) == ["a2", "b1", "a1"]


def test_a_run_that_another_worker_has_is_left_to_it(stand):
    drives = Drives(stand, a1=Busy("another run holds it"))

    assert drain(drives) == []
    assert drives.said == []


def test_a_journal_that_is_away_is_waited_for(stand, monkeypatch):
    drives, stop = Drives(stand), threading.Event()
    troubles = [Unavailable("the journal is away")]

    def idle():
        if troubles:
            raise troubles.pop()
        if len(drives.done) == 3:
            stop.set()

    drives.dispatcher.serve(stop, 0.01, idle)

    assert drives.done == ["a1", "a2", "b1"]
    assert drives.said == ["waiting: the journal is away"]
