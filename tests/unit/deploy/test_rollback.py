"""A rollback decides anew when a front moved on between its status and the switch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from mcpops.deploy.plan import RollbackPlan
from mcpops.deploy.rollback import Order, Rollback, roll_back
from mcpops.model.target import Target
from mcpops.remote.channel import Answer
from mcpops.remote.fleet import Fleet
from tests.unit.deploy.fakes import FakeFront, FakeTransport, answer

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcpops.deploy.proof.prove", lambda *_: [])


def back(front: FakeFront) -> tuple[Rollback, list[RollbackPlan]]:
    """Roll back one front; return what came of it, and each plan that was told."""
    plans: list[RollbackPlan] = []
    target = Target(name="a", address="x", connection="local", python="python3", hostside_path="h", state_dir="s")
    transports = {"local": FakeTransport({"a": front})}
    with Fleet.open([target], 1.0, transports) as fleet:
        done = roll_back(fleet, Order(run="back"), now=lambda: NOW, intend=plans.append)
    return done, plans


def once(change: Callable[[], Answer]) -> Callable[[], Answer | None]:
    """A fault that happens the first time only."""
    left = [change]
    return lambda: left.pop()() if left else None


def refused(name: str) -> Answer:
    return answer(9, error={"name": name, "message": "not now", "detail": "", "hint": ""})


def test_a_slot_that_another_run_emptied_meanwhile_is_staged_again() -> None:
    front = FakeFront("a", active="green", generation=2, stopped={"blue"})
    front.slots = {"blue": "r1", "green": "r2"}

    def emptied() -> Answer:
        front.slots["blue"] = ""
        return refused("not_staged")

    front.faults["slot start"] = once(emptied)

    done, plans = back(front)

    assert int(done.code) == 0, done.report.reason
    assert [plan.activation.moves[0].needs_stage for plan in plans] == [False, True]
    assert front.slots[front.active] == "r1"


def test_a_slot_that_is_being_stopped_is_started_first() -> None:
    """The retire of a deploy that is outranked by now."""
    front = FakeFront("a", active="green", generation=2)

    def stopping() -> Answer:
        front.stopped.add("blue")
        return refused("stopped")

    front.faults["front activate"] = once(stopping)

    done, plans = back(front)

    assert int(done.code) == 0, done.report.reason
    assert [plan.activation.moves[0].needs_start for plan in plans] == [False, True]
    assert (front.active, front.stopped) == ("blue", set())


def test_the_front_is_told_which_release_the_slot_must_hold() -> None:
    front = FakeFront("a", active="green", generation=2)

    back(front)

    [words] = [words for words in front.asked if words[:2] == ["front", "activate"]]
    assert words[words.index("--release") + 1] == "r1"
