"""Bake: wait for the guards' verdicts on all fronts; the first that trips takes the release back everywhere.

Each front's guard goes back by itself within milliseconds. What is left to do here is that the others follow, since
one front on the old release and one on the new is what no client should see.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcpops.core.clock import Clock
from mcpops.core.errors import ExitCode
from mcpops.deploy.cutover import CALL_S, ActivationReport, Right, activate, nothing_to_do, read_fronts
from mcpops.deploy.fleet_state import BAKE, FrontState
from mcpops.deploy.plan import Refusal, plan_undo
from mcpops.model.outcome import Outcome, Result
from mcpops.remote.channel import Answer, Unreachable
from mcpops.remote.fleet import Fleet

# How long a front that tripped may be the only one on the old slot: one question and its answer more than this.
POLL_S = 0.05
# The guard's own clock started a little after ours.
PATIENCE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a guard found on one front: passed, tripped, running or unknown, and why."""

    host: str
    word: str
    why: str = ""
    ms: float | None = None
    requests_failed: int = 0  # as the guard counted them on the new slot

    @property
    def result(self) -> Result:
        """The row of the record."""
        outcome = {"passed": Outcome.OK, "tripped": Outcome.FAILED}.get(self.word, Outcome.UNKNOWN)
        took = f", back after {self.ms:.0f} ms" if self.ms is not None else ""
        return Result(host=self.host, task="guard", outcome=outcome, message=f"{self.word}: {self.why}{took}")


def wait_for_verdicts(
    fleet: Fleet, generations: Mapping[str, int], guard_s: float, clock: Clock, cancel: threading.Event
) -> dict[str, Verdict]:
    """Return the verdict of each front, once all have one, or as soon as one did not pass, or after the deadline.

    A front that is gone is as final as one that tripped: nobody waits a bake out that cannot pass any more.
    Asked all at once by short calls. Set `cancel` to give up; what runs still is unknown then.
    """
    until_s = clock.monotonic_s() + guard_s + PATIENCE_S
    verdicts: dict[str, Verdict] = {}
    while True:
        waiting = [host for host in generations if verdicts.get(host, _RUNNING).word == "running"]
        words = {host: ("front", "verdict", "--generation", str(generations[host])) for host in waiting}
        for host, answer in fleet.call_all(words, CALL_S).items():
            verdicts[host] = _verdict(host, answer)
        words_now = {verdict.word for verdict in verdicts.values()}
        if "running" not in words_now or words_now & {"tripped", "unknown"}:
            return verdicts
        if cancel.wait(POLL_S) or clock.monotonic_s() > until_s:
            return verdicts


_RUNNING = Verdict(host="", word="running")


def _verdict(host: str, answer: Answer | Unreachable) -> Verdict:
    if isinstance(answer, Unreachable):
        return Verdict(host=host, word="unknown", why=answer.message)
    if answer.exit != ExitCode.OK:
        return Verdict(host=host, word="unknown", why=str(answer.error.get("message", f"exit {answer.exit}")))
    said: dict[str, Any] = answer.output
    return Verdict(
        host=host,
        word=str(said["verdict"]),
        why=str(said.get("why") or ""),
        ms=said.get("ms"),
        requests_failed=int(said.get("requests_failed") or 0),
    )


def settle(fleet: Fleet, fronts: list[FrontState], right: Right) -> dict[str, Answer | Unreachable]:
    """End the bake phase on the fronts that are still in it; the guard ends it by itself a moment later."""
    words = {
        front.host: right.argv("front", "settle", "--generation", str(front.generation))
        for front in fronts
        if front.phase == BAKE
    }
    return fleet.call_all(words, CALL_S)


def take_back(fleet: Fleet, slot: str, right: Right) -> ActivationReport | Refusal:
    """Bring every front away from `slot`, all at once; raises Fenced. A front that moved meanwhile is asked again."""
    for _ in range(3):
        plan = plan_undo(read_fronts(fleet), slot)
        if isinstance(plan, Refusal):
            return plan
        if plan.already:
            return nothing_to_do(plan)
        report = activate(fleet, plan, right, first_alone=False)
        if not report.stale:
            break
    return report
