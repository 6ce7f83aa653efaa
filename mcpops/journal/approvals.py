"""Decisions on the plan of a run that waits at a gate; bound to the digest of that very plan."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select

from mcpops.core.clock import to_text
from mcpops.core.errors import Refused, UsageError
from mcpops.journal import seal, tables
from mcpops.journal.standing import require_open
from mcpops.journal.store import Store
from mcpops.model.run import Decision, Run, StepState


def waits_at(run: Run) -> int:
    """Return the seq of the gate that a run waits at. Raises UsageError when it waits at none."""
    seqs = [record.seq for record in run.steps if record.state is StepState.WAITING]
    if not seqs:
        raise UsageError(f"run {run.id} waits for no decision", detail=f"it is {run.state.value}")
    return min(seqs)


def decide(store: Store, run: Run, decision: Decision) -> None:
    """Write a decision for the gate that `run` waits at.

    Raises UsageError when the run does not wait there (any more) or ended, Refused when the requester approves their
    own plan.
    """
    at = to_text(decision.at)
    with store.write() as connection:
        if _gate(connection, run) != decision.seq:
            raise UsageError(
                f"run {run.id} waits at another gate now", hint=f"`mcpops runs show {run.id}`, then decide"
            )
        if decision.decision == "approve" and decision.by == run.requested_by:
            raise Refused(f"{decision.by} asked for run {run.id} and cannot approve it", hint="another person decides")
        mine = (tables.approval.c.run_id == run.id) & (tables.approval.c.seq == decision.seq)
        n = (connection.execute(select(func.max(tables.approval.c.n)).where(mine)).scalar() or 0) + 1
        row = {
            "decision": decision.decision,
            "by": decision.by,
            "plan_digest": decision.plan_digest,
            "signature": decision.signature,
            "expires_at": to_text(decision.expires_at) if decision.expires_at else None,
        }
        connection.execute(insert(tables.approval).values(run_id=run.id, seq=decision.seq, n=n, at=at, **row))
        body = {"seq": decision.seq, "n": n, "at": at, **row}
        seal.append(connection, store.sealer, run_id=run.id, at=at, kind="approval", body=body)


def _gate(connection: Connection, run: Run) -> int:
    """Return the seq of the gate that a run waits at now."""
    state = require_open(connection, run.id, otherwise="it waits for no decision")
    waits = (tables.step.c.run_id == run.id) & (tables.step.c.state == StepState.WAITING)
    seq = connection.execute(select(func.min(tables.step.c.seq)).where(waits)).scalar_one()
    if seq is None:
        raise UsageError(f"run {run.id} waits for no decision", detail=f"it is {state.value}")
    return int(seq)
