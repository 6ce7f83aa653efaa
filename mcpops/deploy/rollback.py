"""Rollback for the person on call: channels and hostside only, on every front that answers.

Plan, say it, write it down, switch all fronts at once, and prove it: by a status read back over the channel, and by
an MCP session of our own through each front.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from mcpops.core.errors import ExitCode
from mcpops.deploy.cutover import ActivationReport, Right, activate, hold, read_fronts
from mcpops.deploy.fleet_state import FrontState
from mcpops.deploy.plan import Refusal, RollbackPlan, plan_rollback, plan_sync
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.remote.fleet import Fleet

TRIES = 3  # a front that moved on between its status and the switch is asked again
SYNC_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """What was asked: back to `to` (None: the last verified release before this one), or only `sync` what was away."""

    run: str
    to: str | None = None
    sync: bool = False


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """What a rollback came to."""

    plan: RollbackPlan
    report: AttemptReport
    code: ExitCode


def roll_back(
    fleet: Fleet,
    order: Order,
    *,
    now: Callable[[], datetime],
    intend: Callable[[RollbackPlan], None],
    timeout_s: float = 5.0,
) -> Rollback:
    """Bring the fronts that answer to the release; `intend` is told the plan before anything changes.

    `timeout_s` is for each request of the proof. Raises what the plan refuses (Refused,
    UsageError, Unknown) with nothing changed, and Fenced when a newer run took the fronts over.
    """
    begin_s = time.monotonic()
    fronts = read_fronts(fleet, fleet.greetings)
    for left in reversed(range(TRIES)):
        plan = _plan(fleet, fronts, order, now())
        intend(plan)
        intent_at_ns = time.time_ns()
        report = _act(fleet, fronts, plan, order)
        if not (report.stale and left):
            break
        fronts = read_fronts(fleet)
    from mcpops.deploy.proof import prove  # noqa: PLC0415 - TLS and HTTP, 20 ms that the switch need not wait for

    proofs = prove(fleet, plan, timeout_s)
    rows = (*report.results, *proofs, *_left_out(fleet, plan))
    attempt = AttemptReport(
        outcome=_outcome(rows),
        reason=_reason(rows),
        results=rows,
        outputs={"cutover": report.outputs(intent_at_ns), "release": plan.release},
        duration_s=time.monotonic() - begin_s,
    )
    return Rollback(plan=plan, report=attempt, code=exit_code(attempt.outcome))


def _plan(fleet: Fleet, fronts: list[FrontState], order: Order, now: datetime) -> RollbackPlan:
    unreachable = {host: error.message for host, error in fleet.errors.items()}
    if order.sync:
        plan = plan_sync(fronts, now=now, unreachable=unreachable)
    else:
        plan = plan_rollback(fronts, now=now, to=order.to, unreachable=unreachable)
    if isinstance(plan, Refusal):
        raise plan.error()
    return plan


def _act(fleet: Fleet, fronts: list[FrontState], plan: RollbackPlan, order: Order) -> ActivationReport:
    right = Right(run=order.run, fence=plan.fence, reason=plan.history_reason)
    if plan.activation.already:
        return hold(fleet, plan.activation, right)
    report = activate(fleet, plan.activation, right, first_alone=False)
    # A proxy whose memory lags behind its disk in the other maps; the switch itself wrote only one of them.
    lagging = [front.host for front in fronts if not front.in_sync and front.proxy_up]
    if order.sync and lagging:
        fleet.call_all({host: right.argv("front", "sync") for host in lagging}, SYNC_S)
    return report


def _left_out(fleet: Fleet, plan: RollbackPlan) -> list[Result]:
    """Return a row for each front that took no part."""
    return [
        Result(
            host=host,
            task="take part",
            outcome=Outcome.UNREACHABLE if host in fleet.errors else Outcome.FAILED,
            message=why,
        )
        for host, why in plan.left_out.items()
    ]


def _outcome(rows: tuple[Result, ...]) -> Outcome:
    seen = {row.outcome for row in rows}
    for outcome in (Outcome.FAILED, Outcome.UNREACHABLE, Outcome.UNKNOWN, Outcome.CHANGED):
        if outcome in seen:
            return outcome
    return Outcome.OK if seen else Outcome.UNKNOWN


def _reason(rows: tuple[Result, ...]) -> str:
    return "; ".join(f"{row.host}: {row.task}: {row.message}" for row in rows if not row.outcome.good)


def exit_code(outcome: Outcome) -> ExitCode:
    """Return 0 only for what is proved on every front; a front that failed is worse than one out of reach."""
    if outcome.good:
        return ExitCode.OK
    return ExitCode.FAILED if outcome is Outcome.FAILED else ExitCode.UNKNOWN
