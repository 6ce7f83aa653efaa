"""The planner, by table: given what the fronts say, when a plan is asked for, then this is expected of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mcpops.deploy.fleet_state import FrontState, read_front
from mcpops.deploy.plan import (
    Activation,
    Refusal,
    RollbackPlan,
    plan_cutover,
    plan_rollback,
    plan_sync,
    plan_undo,
    taken_over,
)

CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def status(given: dict[str, Any]) -> dict[str, Any]:
    """What hostside would say: a slot is `RELEASE [stopped] [closed]`; `verified` is in the order of verification.

    A release is its name, or `NAME@DIGEST`.

    A line of the history is `[GENERATION, SLOT, RELEASE, REASON]`, and what else the case needs to say of it.
    """
    slots = {}
    for slot, text in given["slots"].items():
        words = text.split()
        running = bool(words) and "stopped" not in words
        state = "closed" if "closed" in words else "open"
        name, _, digest = words[0].partition("@") if words else ("", "", "")
        staged = {"release": name or None, "digest": digest or None}
        slots[slot] = {**staged, "running": running, "healthy": running, "state": state}
    verified = given["verified"]
    return {
        "active": given["active"],
        "generation": given["generation"],
        "phase": given.get("phase", "steady"),
        "proxy": given.get("proxy", True),
        "in_sync": given.get("in_sync", True),
        "fence": {"fence": given.get("fence", 7), "run": "r"},
        "slots": slots,
        "releases": [
            {"name": name.partition("@")[0], "digest": name.partition("@")[2], "verified_at": _at(verified, name)}
            for name in given.get("known", verified)
        ],
        "activations": [_line(*line) for line in given["history"]],
    }


def _line(
    generation: int, slot: str, release: str | None, reason: str, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    line = {"generation": generation, "to": {"slot": slot}, "release": release, "at": "", "reason": reason}
    return {**line, **(more or {})}


def _at(verified: list[str], name: str) -> str | None:
    return f"2026-11-0{verified.index(name) + 1}T00:00:00Z" if name in verified else None


def plan(fronts: list[FrontState], when: dict[str, Any]) -> Activation | RollbackPlan | Refusal:
    kind = when["plan"]
    if kind == "cutover":
        return plan_cutover(fronts, when["slot"], when.get("release"))
    if kind == "undo":
        return plan_undo(fronts, when["slot"])
    if kind == "sync":
        return plan_sync(fronts, now=NOW)
    return plan_rollback(fronts, now=NOW, to=when.get("to"), unreachable=when.get("unreachable"))


def told(found: Activation | RollbackPlan | Refusal) -> dict[str, Any]:
    """The plan in the words of the cases."""
    if isinstance(found, Refusal):
        return {"refused": int(found.code), "message": found.message, "detail": found.detail}
    activation = found.activation if isinstance(found, RollbackPlan) else found
    data: dict[str, Any] = {
        "release": activation.release,
        "generation": activation.generation,
        "already": activation.already,
        "slots": {move.host: move.slot for move in activation.moves},
        "expect": {move.host: move.expect for move in activation.moves},
    }
    for need in ("needs_start", "needs_stage", "needs_open"):
        data[need] = sorted(move.host for move in activation.moves if getattr(move, need))
    if isinstance(found, RollbackPlan):
        data |= {"fence": found.fence, "left_out": dict(found.left_out), "reason": found.history_reason}
    return data


@pytest.mark.parametrize("order", [1, -1], ids=["as given", "in reverse"])
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path, order: int) -> None:
    """What is right does not depend on which front the inventory names first."""
    case = json.loads(path.read_text())
    fronts = [read_front(given["host"], status(given)) for given in case["given"][::order]]
    found = told(plan(fronts, case["when"]))
    assert {key: found.get(key) for key in case["expected"]} == case["expected"], found


def test_every_plan_says_why() -> None:
    for path in CASES:
        case = json.loads(path.read_text())
        found = plan([read_front(given["host"], status(given)) for given in case["given"]], case["when"])
        activation = found.activation if isinstance(found, RollbackPlan) else found
        assert activation.message if isinstance(activation, Refusal) else activation.reasons, path.stem


def test_a_refusal_becomes_its_error() -> None:
    refusal = plan_rollback([], now=NOW, unreachable={"a": "no route"})
    assert isinstance(refusal, Refusal)
    error = refusal.error()
    assert (int(error.code), error.detail) == (3, "a: no route")


@pytest.mark.parametrize(
    ("fence", "run", "refused"),
    [(7, "mine", False), (6, "other", False), (7, "other", False), (8, "mine", False), (8, "other", True)],
)
def test_a_run_that_another_one_overtook_does_not_go_on(fence: int, run: str, refused: bool) -> None:
    said = status({"active": "blue", "generation": 1, "slots": {}, "verified": [], "history": []})
    fronts = [read_front("a", said | {"fence": {"fence": 7, "run": "mine"}})]
    fronts.append(read_front("b", said | {"fence": {"fence": fence, "run": run}}))
    found = taken_over(fronts, "mine", 7)
    assert (found is not None) == refused
    if found:
        assert (int(found.code), found.detail) == (9, "b: run other")
        assert "mcpops runs abandon mine" in found.hint


@pytest.mark.parametrize(
    "broken",
    [{}, {"active": "red"}, {"generation": "x"}, {"slots": None}, {"activations": [{"to": {"slot": "blue"}}]}],
    ids=str,
)
def test_a_status_that_says_too_little_is_no_status(broken: dict[str, Any]) -> None:
    whole = status({"active": "blue", "generation": 1, "slots": {}, "verified": [], "history": []})
    assert read_front("a", whole).active == "blue"
    with pytest.raises(ValueError, match="a: the status lacks"):
        read_front("a", {**whole, **broken} if broken else {})
