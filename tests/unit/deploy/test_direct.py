"""The direct actions on fronts of the mind: order, fences, guards, and the way back."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mcpops.core.errors import Fenced, Unknown
from mcpops.deploy.direct import ACTIONS, DirectContext
from mcpops.model.outcome import AttemptReport, Outcome
from mcpops.remote.fleet import Fleet
from tests.unit.deploy.fakes import FakeFront, FakeTransport, answer, gone, never, refuses


class Clock:
    """Stands still unless it is asked; each question takes a second."""

    def __init__(self) -> None:
        self.asked_s = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=self.asked_s)

    def monotonic_s(self) -> float:
        self.asked_s += 1
        return self.asked_s


def fronts(**more: Any) -> dict[str, FakeFront]:
    return {name: FakeFront(name, **more) for name in "abc"}


def act(given: dict[str, FakeFront], name: str, verb: str = "act", **more: Any) -> AttemptReport:
    context = DirectContext(
        targets=more.pop("targets", tuple(front.target for front in given.values())),
        slot="green",
        run="r",
        fence=more.pop("fence", 5),
        release=more.pop("release", "r2"),
        guard_s=more.pop("guard_s", 2.0),
        clock=Clock(),
        transports={"local": FakeTransport(given)},
        **more,
    )
    action = ACTIONS[name](context)
    try:
        action.prepare()
        return action.act() if verb == "act" else action.undo()
    finally:
        action.close()


def active(given: dict[str, FakeFront]) -> dict[str, str]:
    return {name: front.active for name, front in given.items()}


ALL_GREEN = {"a": "green", "b": "green", "c": "green"}
ALL_BLUE = {"a": "blue", "b": "blue", "c": "blue"}


def test_cutover_switches_all_fronts_as_one_generation_with_guards() -> None:
    given = fronts()
    given["b"].generation = 6
    report = act(given, "cutover")
    assert report.outcome is Outcome.CHANGED
    assert active(given) == ALL_GREEN
    assert {(front.generation, front.phase) for front in given.values()} == {(7, "bake")}
    assert [row.task for row in report.results] == ["activate slot green"] * 3
    told = report.outputs["cutover"]
    assert (told["hosts"], told["switch_ms"]) == (3, 4.0)
    assert told["intent_to_switch_ms"] > 0
    assert told["skew_ms"] >= 0
    assert given["a"].history[0]["reason"] == "cutover: r2"


def test_cutover_without_a_guard_stays_steady() -> None:
    given = fronts()
    act(given, "cutover", guard_s=0.0)
    assert {front.phase for front in given.values()} == {"steady"}


def test_cutover_stops_at_the_first_front_when_it_refuses() -> None:
    given = fronts()
    given["a"].faults["front activate"] = refuses("stale", 9)
    report = act(given, "cutover")
    assert report.outcome is Outcome.FAILED
    assert active(given) == ALL_BLUE
    assert "not asked any more: b, c" in report.reason
    assert not any(words[:2] == ["front", "activate"] for words in given["b"].asked)


def test_cutover_tells_which_front_failed_and_undo_brings_all_back() -> None:
    given = fronts()
    given["c"].faults["front activate --slot green"] = refuses("disk_full", 1)
    report = act(given, "cutover")
    assert report.outcome is Outcome.FAILED
    assert "on c: it is disk_full" in report.reason
    assert active(given) == {"a": "green", "b": "green", "c": "blue"}
    undone = act(given, "cutover", "undo")
    assert undone.outcome is Outcome.CHANGED
    assert active(given) == ALL_BLUE
    assert {front.generation for front in given.values()} == {3}


def test_cutover_of_a_front_that_was_lost_on_the_way_is_unreachable() -> None:
    given = fronts()
    given["b"].faults["front activate"] = gone("b")
    assert act(given, "cutover").outcome is Outcome.UNREACHABLE


def test_a_proxy_that_is_down_is_unknown() -> None:
    given = fronts()
    given["b"].faults["front activate"] = refuses("proxy_down", 3)
    assert act(given, "cutover").outcome is Outcome.UNKNOWN


def test_cutover_is_not_begun_when_a_front_gives_no_answer() -> None:
    given = fronts()
    down = FakeFront("down").target
    with pytest.raises(Unknown, match="no answer from down") as caught:
        act(given, "cutover", targets=(given["a"].target, down))
    assert "no route" in caught.value.detail
    assert caught.value.hint == "switch it on"
    assert active(given) == ALL_BLUE


def test_undo_takes_back_what_answers_and_tells_the_rest() -> None:
    given = fronts()
    act(given, "cutover")
    down = FakeFront("down").target
    report = act(given, "cutover", "undo", targets=(given["a"].target, down, given["c"].target))
    assert report.outcome is Outcome.UNREACHABLE
    assert "no route" in report.reason
    assert active(given) == {"a": "blue", "b": "green", "c": "blue"}


def test_the_bake_is_unknown_when_a_front_gives_no_answer() -> None:
    given = fronts()
    act(given, "cutover")
    down = FakeFront("down").target
    with pytest.raises(Unknown, match="no answer from down"):
        act(given, "bake", targets=(given["a"].target, down))
    assert active(given) == ALL_GREEN


def test_a_front_whose_status_makes_no_sense_gives_no_answer() -> None:
    given = fronts()
    given["b"].faults["status"] = lambda: answer(active="red")
    with pytest.raises(Unknown, match="no answer from b"):
        act(given, "cutover")


def test_no_front_at_all_is_unknown() -> None:
    with pytest.raises(Unknown, match="no front at all"):
        act({}, "cutover")


@pytest.mark.parametrize("verb", ["act", "undo"])
def test_a_fenced_front_ends_the_run(verb: str) -> None:
    given = fronts()
    if verb == "undo":
        act(given, "cutover")
    before = active(given)
    for front in given.values():
        front.fence = 99
    with pytest.raises(Fenced, match="a: lower than mine"):
        act(given, "cutover", verb)
    assert active(given) == before


def test_cutover_repeated_changes_nothing() -> None:
    given = fronts()
    act(given, "cutover")
    for front in given.values():
        front.faults["front activate"] = never
    report = act(given, "cutover")
    assert report.outcome is Outcome.OK
    assert report.outputs["cutover"]["intent_to_switch_ms"] == 0


def test_cutover_resumed_half_way_brings_all_to_one_generation() -> None:
    given = fronts()
    given["a"].switch("green", 2, "cutover: r2")
    report = act(given, "cutover")
    assert report.outcome is Outcome.CHANGED
    assert active(given) == ALL_GREEN
    assert {front.generation for front in given.values()} == {3}


def test_cutover_of_what_was_not_staged_is_refused() -> None:
    given = fronts()
    given["c"].slots["green"] = "r3"
    report = act(given, "cutover")
    assert report.outcome is Outcome.FAILED
    assert "c: slot green holds r3, not r2" in report.reason
    assert active(given) == ALL_BLUE


def test_undo_of_nothing_is_ok() -> None:
    given = fronts()
    assert act(given, "cutover", "undo").outcome is Outcome.OK


def test_undo_starts_an_old_slot_that_was_stopped() -> None:
    given = fronts()
    act(given, "cutover")
    given["b"].stopped.add("blue")
    assert act(given, "cutover", "undo").outcome is Outcome.CHANGED
    assert ["slot", "start", "blue"] in given["b"].asked
    assert active(given) == ALL_BLUE


def test_undo_asks_a_front_again_that_moved_meanwhile() -> None:
    given = fronts()
    act(given, "cutover")
    moved = []

    def its_guard_went_back() -> None:
        if not moved:
            moved.append(True)
            given["b"].switch("blue", 3, "guard: x")

    given["b"].faults["front activate --slot blue"] = its_guard_went_back
    report = act(given, "cutover", "undo")
    assert report.outcome is Outcome.CHANGED
    assert active(given) == ALL_BLUE
    assert len({front.generation for front in given.values()}) == 1


def test_bake_passes_when_every_guard_did_and_ends_the_phase() -> None:
    given = fronts()
    act(given, "cutover")
    report = act(given, "bake")
    assert report.outcome is Outcome.CHANGED
    assert [row.message for row in report.results] == ["passed: said so"] * 3
    assert {front.phase for front in given.values()} == {"steady"}
    assert act(given, "bake").outcome is Outcome.OK


def test_bake_takes_the_release_back_everywhere_when_one_guard_trips() -> None:
    given = fronts()
    act(given, "cutover")
    given["b"].verdict = "tripped"
    given["b"].switch("blue", 3, "guard: 3 failed requests")
    for name in "ac":
        given[name].verdict = "running"
    report = act(given, "bake")
    assert report.outcome is Outcome.FAILED
    assert "the guard on b: tripped" in report.reason
    assert "every front is back on blue" in report.reason
    assert active(given) == ALL_BLUE
    assert act(given, "cutover", "undo").outcome is Outcome.OK


def test_bake_trips_while_it_is_watched() -> None:
    given = fronts()
    act(given, "cutover")
    asked = []

    def trips_at_the_third_question() -> None:
        asked.append(1)
        if len(asked) == 3:
            given["c"].verdict = "tripped"
            given["c"].switch("blue", 3, "guard: slow")

    for front in given.values():
        front.verdict = "running"
    given["c"].faults["front verdict"] = trips_at_the_third_question
    report = act(given, "bake", guard_s=60.0)
    assert report.outcome is Outcome.FAILED
    assert "back after 80 ms" in report.results[2].message
    assert len(asked) == 3, "the others are not waited for"
    assert sum(words[:2] == ["front", "verdict"] for words in given["a"].asked) == 3
    assert active(given) == ALL_BLUE


def test_bake_lets_a_front_that_came_in_serve_nothing_again() -> None:
    """Its guard had no slot to go back to: it says that it tripped, and leaves the rest to us."""
    given = fronts()
    given["b"] = FakeFront("b", active="none", generation=0, slots={"blue": "", "green": "r2"})
    assert act(given, "cutover").outcome is Outcome.CHANGED
    assert active(given) == ALL_GREEN
    given["b"].verdict = "tripped"
    report = act(given, "bake")
    assert report.outcome is Outcome.FAILED
    assert active(given) == {"a": "blue", "b": "none", "c": "blue"}
    assert {(front.generation, front.phase) for front in given.values()} == {(3, "steady")}
    assert act(given, "cutover", "undo").outcome is Outcome.OK


def test_bake_without_a_verdict_is_unknown_and_blocks() -> None:
    given = fronts()
    act(given, "cutover")
    given["a"].verdict = "unknown"
    report = act(given, "bake")
    assert report.outcome is Outcome.UNKNOWN
    assert "the guard on a: unknown" in report.reason


def test_bake_waits_no_longer_than_the_guard_and_some() -> None:
    given = fronts()
    act(given, "cutover")
    given["a"].verdict = "running"
    assert act(given, "bake", guard_s=2.0).outcome is Outcome.UNKNOWN


def test_bake_that_is_cancelled_is_unknown() -> None:
    given = fronts()
    act(given, "cutover")
    given["a"].verdict = "running"
    cancel = threading.Event()
    cancel.set()
    assert act(given, "bake", guard_s=1e9, cancel=cancel).outcome is Outcome.UNKNOWN


def test_bake_of_a_front_that_was_lost_is_unknown() -> None:
    given = fronts()
    act(given, "cutover")
    given["a"].faults["front verdict"] = gone("a")
    assert act(given, "bake").outcome is Outcome.UNKNOWN


def test_bake_of_a_slot_that_is_not_active_fails() -> None:
    given = fronts()
    report = act(given, "bake")
    assert report.outcome is Outcome.FAILED
    assert "a, b, c: green is not active" in report.reason


def test_a_bake_that_cannot_pass_any_more_is_not_waited_out() -> None:
    given = fronts()
    act(given, "cutover")
    given["a"].faults["front verdict"] = gone("a")
    given["b"].verdict = given["c"].verdict = "running"
    report = act(given, "bake", guard_s=1e9)
    assert report.outcome is Outcome.UNKNOWN
    assert len([words for words in given["b"].asked if words[:2] == ["front", "verdict"]]) == 1


def test_bake_whose_phase_does_not_end_is_unknown() -> None:
    given = fronts()
    act(given, "cutover")
    given["a"].faults["front settle"] = refuses("proxy_refused", 3)
    assert act(given, "bake").outcome is Outcome.UNKNOWN


def test_a_fleet_says_why_a_host_has_no_channel() -> None:
    fleet = Fleet.open([FakeFront("down").target], 1.0, {"local": FakeTransport({})})
    said = fleet.call_all({"down": ["status"]}, 1.0)
    assert "no route to host" in str(said["down"])
