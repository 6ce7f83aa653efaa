"""Direct actions: the steps of a deploy that go over open channels instead of through Ansible.

    action = ACTIONS["cutover"](context)
    action.prepare()              # opens the channels, reads the statuses; changes nothing, may take a second
    report = action.act()         # or action.undo(), also in another process than act's; raises Fenced
    action.close()

A switch of half of the fronts is not begun: `act` raises Unknown when a front gives no answer. What is taken back is
taken back wherever somebody answers, and the others are told as unreachable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mcpops.core.clock import Clock, SystemClock
from mcpops.core.errors import Unknown
from mcpops.deploy.bake import Verdict, settle, take_back, wait_for_verdicts
from mcpops.deploy.cutover import ActivationReport, Right, activate, nothing_to_do, read_fronts
from mcpops.deploy.fleet_state import FrontState, other
from mcpops.deploy.plan import Refusal, plan_cutover
from mcpops.model.outcome import AttemptReport, Outcome
from mcpops.model.target import Target
from mcpops.remote.channel import Answer, Unreachable
from mcpops.remote.fleet import Fleet
from mcpops.remote.transport import TRANSPORTS, Transport


@dataclass(frozen=True, kw_only=True)
class DirectContext:
    """What an action needs to know. `slot` is the one that the deploy staged and activates.

    `release` is the name that must be staged there (None: whatever is, the same on all). `guard_s` is how long the
    guards watch (0: none do). `timeout_s` bounds the opening of the channels.
    """

    targets: tuple[Target, ...]
    slot: str
    run: str
    fence: int
    release: str | None = None
    guard_s: float = 0.0
    timeout_s: float = 10.0
    cancel: threading.Event = field(default_factory=threading.Event)
    clock: Clock = field(default_factory=SystemClock)
    transports: Mapping[str, Transport] = field(default_factory=lambda: TRANSPORTS)


class DirectAction(Protocol):
    """One try of one direct step."""

    def prepare(self) -> None:
        """Open the channels and read the statuses; raises Unknown when no front answers."""

    def act(self) -> AttemptReport:
        """Do it; raises Unknown when a front gives no answer, and Fenced when one refuses this run."""

    def undo(self) -> AttemptReport:
        """Take it back, whether `act` did all, half or nothing of it; raises Fenced."""

    def close(self) -> None:
        """Let go of the channels; also after an error."""


class _OnFronts:
    """What both actions share: channels that are open, and the right to act."""

    def __init__(self, context: DirectContext) -> None:
        self.context = context
        self.fleet = Fleet({}, {}, {})
        self.fronts: list[FrontState] = []

    def prepare(self) -> None:
        """Open the channels and read the statuses; raises Unknown when no front answers."""
        context = self.context
        self.fleet = Fleet.open(context.targets, context.timeout_s, context.transports)
        self.fronts = read_fronts(self.fleet, self.fleet.greetings)
        if not self.fronts:
            raise _no_answer(self.fleet)

    def _require_all(self) -> None:
        """Raise Unknown unless every front answers; nothing was changed yet."""
        if self.fleet.errors:
            raise _no_answer(self.fleet)

    def close(self) -> None:
        """Let go of the channels."""
        self.fleet.close()

    def _right(self, reason: str) -> Right:
        return Right(run=self.context.run, fence=self.context.fence, reason=reason)

    def _take_back(self, reason: str) -> AttemptReport:
        intent_at_ns = time.time_ns()
        report = take_back(self.fleet, self.context.slot, self._right(reason))
        if isinstance(report, Refusal):
            return refused(report)
        return to_report(report, intent_at_ns, lost=self.fleet.errors)


class Cutover(_OnFronts):
    """New requests go to the slot that was staged, on every front."""

    def act(self) -> AttemptReport:
        """Switch the first front, then the others; a failure leaves the fronts as the results say, for `undo`."""
        self._require_all()
        intent_at_ns, context = time.time_ns(), self.context
        plan = plan_cutover(self.fronts, context.slot, context.release)
        if isinstance(plan, Refusal):
            return refused(plan)
        if plan.already:
            return to_report(nothing_to_do(plan), intent_at_ns)
        right = self._right(f"cutover: {plan.release}")
        return to_report(activate(self.fleet, plan, right, guard_s=context.guard_s), intent_at_ns)

    def undo(self) -> AttemptReport:
        """Send new requests to the other slot again, on every front that was switched."""
        return self._take_back(f"undo: away from slot {self.context.slot}")


class Bake(_OnFronts):
    """The guards watch the new slot under real traffic; nothing found on any front is a pass."""

    def act(self) -> AttemptReport:
        """Wait for the verdicts; the first that trips takes the release back on every front."""
        self._require_all()
        context = self.context
        elsewhere = [front.host for front in self.fronts if front.active != context.slot]
        tripped_before = [host for host in elsewhere if self._tripped_by_itself(host)]
        if elsewhere and not tripped_before:
            return AttemptReport(outcome=Outcome.FAILED, reason=f"{', '.join(elsewhere)}: {context.slot} is not active")
        generations = {front.host: self._watched(front) for front in self.fronts}
        verdicts = wait_for_verdicts(self.fleet, generations, context.guard_s, context.clock, context.cancel)
        rows = tuple(verdict.result for verdict in verdicts.values())
        saw = {"bake": {"hosts": len(verdicts), "requests_failed": sum(v.requests_failed for v in verdicts.values())}}
        bad = [verdict for verdict in verdicts.values() if verdict.word != "passed"]
        if not bad:
            return self._passed(verdicts, saw)
        tripped = [verdict for verdict in bad if verdict.word == "tripped"]
        first = (tripped or bad)[0]
        reason = f"the guard on {first.host}: {first.word}, {first.why}"
        if not tripped:
            return AttemptReport(outcome=Outcome.UNKNOWN, reason=reason, results=rows)
        back = self._take_back(f"undo: the guard on {first.host} found {first.why}")
        where = f"every front is back on {other(context.slot)}" if back.outcome.good else back.reason
        return AttemptReport(
            outcome=Outcome.FAILED, reason=f"{reason}; {where}", results=rows + back.results, outputs=saw
        )

    def undo(self) -> AttemptReport:
        """Nothing to take back: the undo of the cutover does it, and the guard ends by the new generation."""
        return AttemptReport(outcome=Outcome.OK, reason="nothing to take back")

    def _tripped_by_itself(self, host: str) -> bool:
        front = next(front for front in self.fronts if front.host == host)
        return bool(front.history) and front.history[0].reason.startswith("guard")

    def _watched(self, front: FrontState) -> int:
        """Return the generation that the guard watched: it went one further if it went back by itself."""
        return front.generation if front.active == self.context.slot else front.generation - 1

    def _passed(self, verdicts: Mapping[str, Verdict], saw: Mapping[str, object]) -> AttemptReport:
        """End the bake phase where the guard has not ended it yet."""
        said = settle(self.fleet, self.fronts, self._right("settle"))
        for host, answer in said.items():
            if isinstance(answer, Unreachable) or answer.exit:
                why = answer.message if isinstance(answer, Unreachable) else str(answer.error.get("message"))
                return AttemptReport(outcome=Outcome.UNKNOWN, reason=f"{host}: the bake phase did not end: {why}")
        changed = any(isinstance(answer, Answer) and answer.output.get("changed") for answer in said.values())
        return AttemptReport(
            outcome=Outcome.CHANGED if changed else Outcome.OK,
            results=tuple(verdict.result for verdict in verdicts.values()),
            outputs=saw,
        )


ACTIONS: Mapping[str, type[Cutover] | type[Bake]] = {"cutover": Cutover, "bake": Bake}


def to_report(
    report: ActivationReport, intent_at_ns: int, *, lost: Mapping[str, Exception] | None = None
) -> AttemptReport:
    """Return the attempt of an activation; fronts that were lost on the way make it unknown."""
    outcome, reason = report.outcome, report.reason
    if lost and outcome.good:
        outcome, reason = Outcome.UNREACHABLE, "; ".join(str(error) for error in lost.values())
    return AttemptReport(
        outcome=outcome, reason=reason, results=report.results, outputs={"cutover": report.outputs(intent_at_ns)}
    )


def refused(refusal: Refusal) -> AttemptReport:
    """Return the attempt that a plan refused."""
    parts = (refusal.message, refusal.detail, refusal.hint)
    return AttemptReport(outcome=Outcome.FAILED, reason="; ".join(part for part in parts if part))


def _no_answer(fleet: Fleet) -> Unknown:
    reasons = [error.message + (f" ({error.detail})" if error.detail else "") for error in fleet.errors.values()]
    hint = next((error.hint for error in fleet.errors.values() if error.hint), "see `mcpops status`")
    hosts = ", ".join(fleet.errors) or "no front at all"
    return Unknown(f"no answer from {hosts}", detail="; ".join(reasons), hint=hint)
