"""Cutover and bake on two real proxies: the guard of one front trips, and both are back on the old slot."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mcpops.deploy.direct import ACTIONS, DirectContext
from mcpops.model.outcome import AttemptReport, Outcome
from tests.integration.front_stand import FrontStand, Load
from tests.integration.rollback_stand import target_of

PORT = 18640


@pytest.fixture
def fronts(tmp_path: Path) -> Iterator[dict[str, FrontStand]]:
    with ExitStack() as stack:
        stands = {}
        for index, name in enumerate("ab"):
            (tmp_path / name).mkdir()
            stands[name] = stack.enter_context(FrontStand(tmp_path / name, PORT + 10 * index))
            stands[name].activate("blue", "--healthy-wait-s", "5")
        yield stands


def act(fronts: dict[str, FrontStand], name: str, verb: str = "act", guard_s: float = 20.0) -> AttemptReport:
    targets = tuple(target_of(host, stand) for host, stand in fronts.items())
    action = ACTIONS[name](DirectContext(targets=targets, slot="green", run="deploy", fence=9, guard_s=guard_s))
    try:
        action.prepare()
        return action.act() if verb == "act" else action.undo()
    finally:
        action.close()


def active(fronts: dict[str, FrontStand]) -> dict[str, tuple[str, str]]:
    said = {host: stand.hostside("status") for host, stand in fronts.items()}
    return {host: (status["active"], status["phase"]) for host, status in said.items()}


def test_cutover_and_bake_without_a_failed_request(fronts: dict[str, FrontStand]) -> None:
    with Load(fronts["a"]) as load:
        cutover = act(fronts, "cutover", guard_s=1.0)
        bake = act(fronts, "bake", guard_s=1.0)
    assert (cutover.outcome, bake.outcome.good) == (Outcome.CHANGED, True), (cutover.reason, bake.reason)
    assert active(fronts) == {"a": ("green", "steady"), "b": ("green", "steady")}
    assert load.failed == []
    assert load.last_sent_to("green") > load.last_sent_to("blue") > 0
    assert cutover.outputs["cutover"]["intent_to_switch_ms"] < 1000


def test_one_guard_trips_and_both_fronts_are_back(fronts: dict[str, FrontStand]) -> None:
    assert act(fronts, "cutover").outcome.good
    reports: list[AttemptReport] = []
    bake = threading.Thread(target=lambda: reports.append(act(fronts, "bake")))
    bake.start()
    time.sleep(0.5)
    with Load(fronts["b"]):
        fronts["b"].backends["green"].mode("500")
        bake.join(20)
    [report] = reports
    assert report.outcome is Outcome.FAILED
    assert "the guard on b: tripped" in report.reason
    assert active(fronts) == {"a": ("blue", "steady"), "b": ("blue", "steady")}
    undo = act(fronts, "cutover", "undo")
    assert undo.outcome is Outcome.OK
    generations = {stand.hostside("status")["generation"] for stand in fronts.values()}
    assert len(generations) == 1


def test_undo_in_another_process_than_the_cutover(fronts: dict[str, FrontStand]) -> None:
    assert act(fronts, "cutover").outcome.good
    assert act(fronts, "cutover", "undo").outcome is Outcome.CHANGED
    assert active(fronts) == {"a": ("blue", "steady"), "b": ("blue", "steady")}


def test_a_front_that_only_got_a_new_generation_keeps_its_history(fronts: dict[str, FrontStand]) -> None:
    """Half of a cutover happened; the resumed one brings both to one generation; what was before stays known."""
    fronts["a"].activate("green", "--reason", "cutover: release-green")
    assert act(fronts, "cutover", guard_s=0.0).outcome is Outcome.CHANGED
    for stand in fronts.values():
        said = stand.hostside("status")
        assert said["generation"] == 3
        assert {line["release"] for line in said["activations"]} == {"release-green", "release-blue"}


def test_undo_of_a_first_deploy_serves_nothing_as_before(tmp_path: Path) -> None:
    with FrontStand(tmp_path, PORT) as stand:
        (stand.state / "slots" / "blue.json").unlink()
        first = {"a": stand}
        assert act(first, "cutover").outcome.good
        assert stand.ask()[1] == "green"
        undo = act(first, "cutover", "undo")
        assert undo.outcome is Outcome.CHANGED, undo.reason
        assert active(first) == {"a": ("none", "steady")}
        assert stand.ask()[0] == 503
        assert act(first, "cutover", "undo").outcome is Outcome.OK
