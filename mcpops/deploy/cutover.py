"""Cutover: the first front alone, as a compare-and-set, then the others at once; and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpops.core.errors import ExitCode, Fenced
from mcpops.deploy.fleet_state import NO_SLOT, FrontState, read_front
from mcpops.deploy.plan import Activation, Move
from mcpops.model.outcome import Outcome, Result
from mcpops.remote.channel import Answer, Unreachable
from mcpops.remote.fleet import Fleet, in_parallel

CALL_S = 15.0  # the switch takes milliseconds; the rest is hostside's own patience with its lock and the proxy
START_S = 120.0
HEALTHY_WAIT_S = 5.0
# Answers of a front on which something happened since its status was read: read it again, and decide anew.
MOVED_ON = frozenset({"stale", "not_staged", "stopped"})
_OUTCOMES = {ExitCode.OK: Outcome.OK, ExitCode.UNKNOWN: Outcome.UNKNOWN}


@dataclass(frozen=True, kw_only=True)
class Right:
    """The right to act on hosts: a run and its fence. `reason` goes into the fronts' history."""

    run: str
    fence: int
    reason: str = ""

    def argv(self, *words: str) -> list[str]:
        """Return a command of hostside under this right."""
        return ["--run", self.run, "--fence", str(self.fence), *words]


@dataclass(frozen=True, kw_only=True)
class Switch:
    """What one front answered to its activation; times are nanoseconds, `switched_at_ns` of the front's clock."""

    host: str
    result: Result
    changed: bool = False
    switch_ms: float = 0.0
    switched_at_ns: int = 0
    ended_at_ns: int = 0
    stale: bool = False


@dataclass(frozen=True, kw_only=True)
class ActivationReport:
    """What an activation came to on each front."""

    switches: tuple[Switch, ...]
    skipped: tuple[str, ...] = field(default=())

    @property
    def outcome(self) -> Outcome:
        """The worst of the fronts; a front that was not asked any more counts as failed already by another."""
        order = (Outcome.OK, Outcome.CHANGED, Outcome.FAILED, Outcome.UNREACHABLE, Outcome.UNKNOWN)
        seen = [switch.result.outcome for switch in self.switches] or [Outcome.UNKNOWN]
        return max(seen, key=order.index)

    @property
    def results(self) -> tuple[Result, ...]:
        """One row a front."""
        return tuple(switch.result for switch in self.switches)

    @property
    def stale(self) -> bool:
        """Whether a front had moved on since its status was read: what it holds, or what is in force there."""
        return any(switch.stale for switch in self.switches)

    @property
    def reason(self) -> str:
        """Why it did not go well, in one sentence; empty when it did."""
        bad = [row for row in self.results if not row.outcome.good]
        rest = f"; not asked any more: {', '.join(self.skipped)}" if self.skipped else ""
        return f"{bad[0].task} on {bad[0].host}: {bad[0].message}{rest}" if bad else ""

    def outputs(self, intent_at_ns: int) -> dict[str, Any]:
        """Return `{"hosts", "switch_ms", "skew_ms", "intent_to_switch_ms"}`.

        `switch_ms` is the slowest front's own time, `skew_ms` between the first and the last front by their clocks,
        `intent_to_switch_ms` from `intent_at_ns` to the last front's answer, by this machine's clock.
        """
        done = [switch for switch in self.switches if switch.result.outcome.good]
        at = [switch.switched_at_ns for switch in done if switch.switched_at_ns]
        ended = max((switch.ended_at_ns for switch in done if switch.ended_at_ns), default=intent_at_ns)
        return {
            "hosts": len(done),
            "switch_ms": round(max((switch.switch_ms for switch in done), default=0.0), 3),
            "skew_ms": round((max(at) - min(at)) / 1e6, 3) if at else 0.0,
            "intent_to_switch_ms": round((ended - intent_at_ns) / 1e6, 3),
        }


def read_fronts(fleet: Fleet, answers: Mapping[str, Answer | Unreachable] | None = None) -> list[FrontState]:
    """Return what the fronts say of themselves, those that answer sensibly; the others stand in `fleet.errors` after.

    `answers` are statuses that were just read (`fleet.greetings`); without them they are read now.
    """
    if answers is None:
        answers = fleet.call_all(dict.fromkeys(fleet.channels, ("status",)), CALL_S)
    fronts = []
    for host, answer in answers.items():
        if isinstance(answer, Unreachable):
            fleet.drop(host, answer)
            continue
        try:
            if answer.exit != ExitCode.OK:
                message = answer.error.get("message", f"status ended with {answer.exit}")
                raise ValueError(f"{host}: {message}")
            fronts.append(read_front(host, answer.output))
        except ValueError as error:
            fleet.drop(host, Unreachable(host, str(error), hint=str(answer.error.get("hint", ""))))
    return fronts


def activate(
    fleet: Fleet, activation: Activation, right: Right, *, guard_s: float | None = None, first_alone: bool = True
) -> ActivationReport:
    """Put an activation into force on its fronts; raises Fenced when one of them refuses this right.

    The first front goes alone: of two deploys at once only one gets past it, and what is wrong with the order shows
    before a second front is touched. Slots are staged, started and opened first, where the plan says so.
    """
    moves = list(activation.moves)
    ready, failed = _make_ready(fleet, activation, right)
    if failed and first_alone:
        return ActivationReport(switches=failed, skipped=tuple(move.host for move in ready))
    by_host = {move.host: move for move in ready}
    order = [move.host for move in moves if move.host in by_host]

    def one(host: str) -> Switch:
        return _switch(fleet, activation, by_host[host], right, guard_s)

    switches: list[Switch] = list(failed)
    if first_alone and order:
        switches.append(one(order[0]))
        if not switches[-1].result.outcome.good:
            return ActivationReport(switches=tuple(switches), skipped=tuple(order[1:]))
        order = order[1:]
    switches += in_parallel(one, order).values()
    return ActivationReport(switches=tuple(switches))


def hold(fleet: Fleet, activation: Activation, right: Right) -> ActivationReport:
    """Take the fence where nothing needs doing: what is in force stays so, also when a deploy was about to switch.

    Raises Fenced when a front has seen a newer right.
    """

    def one(switch: Switch) -> Switch:
        asked = _ask(fleet, switch.host, switch.result.task, right.argv("front", "sync"), CALL_S)
        return switch if asked.result.outcome.good else asked

    there = {switch.host: switch for switch in nothing_to_do(activation).switches}
    return ActivationReport(switches=tuple(in_parallel(lambda host: one(there[host]), list(there)).values()))


def nothing_to_do(activation: Activation) -> ActivationReport:
    """Return the report of an activation that is in force already."""
    return ActivationReport(
        switches=tuple(
            Switch(
                host=move.host,
                result=Result(
                    host=move.host,
                    task=f"activate slot {move.slot}",
                    outcome=Outcome.OK,
                    message=f"{move.from_release} in {move.from_slot}, generation {move.expect}, already so",
                ),
            )
            for move in activation.moves
        )
    )


def _make_ready(fleet: Fleet, activation: Activation, right: Right) -> tuple[list[Move], tuple[Switch, ...]]:
    """Stage, start and open the slots that need it, on all fronts at once; return who is ready and who failed."""

    def one(host: str) -> Switch | None:
        move = moves[host]
        for words in _preparations(move, activation.release):
            switch = _ask(fleet, host, " ".join(words[:3]), right.argv(*words), START_S)
            if not switch.result.outcome.good:
                return switch
        return None

    moves = {move.host: move for move in activation.moves}
    needing = [host for host, move in moves.items() if move.needs_stage or move.needs_start or move.needs_open]
    failed = [switch for switch in in_parallel(one, needing).values() if switch]
    bad = {switch.host for switch in failed}
    return [move for move in activation.moves if move.host not in bad], tuple(failed)


def _preparations(move: Move, release: str) -> list[list[str]]:
    words = []
    if move.needs_stage:
        words.append(["slot", "stage", move.slot, "--release", release])
    if move.needs_start:
        words.append(["slot", "start", move.slot])
    if move.needs_open:
        words.append(["front", "open", move.slot])
    return words


def _switch(fleet: Fleet, activation: Activation, move: Move, right: Right, guard_s: float | None) -> Switch:
    words = ["front", "activate", "--slot", move.slot, "--generation", str(activation.generation)]
    words += ["--expect", str(move.expect), "--reason", right.reason]
    if move.slot != NO_SLOT:
        words += ["--release", move.holds or activation.release]
    if guard_s:
        words += ["--guard-s", f"{guard_s:g}"]
    if move.needs_stage or move.needs_start:
        words += ["--healthy-wait-s", f"{HEALTHY_WAIT_S:g}"]  # its first checks by the proxy are still to come
    return _ask(fleet, move.host, f"activate slot {move.slot}", right.argv(*words), CALL_S)


def _ask(fleet: Fleet, host: str, task: str, argv: Sequence[str], deadline_s: float) -> Switch:
    """Do one command on one front; raises Fenced."""
    try:
        answer = fleet.call(host, argv, deadline_s)
    except Unreachable as error:
        message = "; ".join(part for part in (error.message, error.detail) if part)
        return Switch(host=host, result=Result(host=host, task=task, outcome=Outcome.UNREACHABLE, message=message))
    if answer.exit == ExitCode.FENCED:
        raise Fenced(
            f"{host}: {answer.error.get('message', 'the fence is lower than the one there')}",
            detail=str(answer.error.get("detail", "")),
            hint=str(answer.error.get("hint", "")),
        )
    changed, said = bool(answer.output.get("changed")), answer.output
    outcome = _OUTCOMES.get(ExitCode(answer.exit), Outcome.FAILED)
    outcome = Outcome.CHANGED if outcome is Outcome.OK and changed else outcome
    switch_ms = float(said.get("switch_ms") or 0.0)
    duration_ms = (answer.ended_at_ns - answer.started_at_ns) // 1_000_000
    return Switch(
        host=host,
        result=Result(host=host, task=task, outcome=outcome, message=_message(answer), duration_ms=duration_ms),
        changed=changed,
        switch_ms=switch_ms,
        switched_at_ns=int(said.get("switched_at_ns") or 0),
        ended_at_ns=answer.ended_at_ns,
        stale=answer.error.get("name") in MOVED_ON,
    )


def _message(answer: Answer) -> str:
    if answer.error:
        return "; ".join(str(answer.error[key]) for key in ("message", "detail", "hint") if answer.error.get(key))
    if "switch_ms" in answer.output:
        there = answer.output.get("to") or {}
        return f"{there.get('release')} in {there.get('slot')}, generation {there.get('generation')}, " + (
            f"switched in {answer.output['switch_ms']:.1f} ms" if answer.output.get("changed") else "already so"
        )
    return ""
