"""Decisions on the plan of a run that waits at a gate; bound to the digest of that very plan."""

from __future__ import annotations

from sqlalchemy import func, insert, select

from mcpops.core.clock import Clock, to_text
from mcpops.core.errors import Refused, UsageError
from mcpops.journal import chain, tables
from mcpops.journal.store import Store
from mcpops.model.run import Run, StepState


def decide(store: Store, clock: Clock, run: Run, *, decision: str, by: str) -> int:
    """Write `approve` or `reject` for the gate that `run` waits at; return the gate's seq.

    Raises UsageError when the run waits at no gate, Refused when the requester approves their own plan.
    """
    gate = next((record for record in run.steps if record.state is StepState.WAITING), None)
    if gate is None:
        raise UsageError(f"run {run.id} waits for no decision", detail=f"it is {run.state.value}")
    if decision == "approve" and by == run.requested_by:
        raise Refused(f"{by} asked for run {run.id} and cannot approve it", hint="another person decides")
    at = to_text(clock.now())
    with store.write() as connection:
        mine = (tables.approval.c.run_id == run.id) & (tables.approval.c.seq == gate.seq)
        n = (connection.execute(select(func.max(tables.approval.c.n)).where(mine)).scalar() or 0) + 1
        row = {"decision": decision, "by": by, "plan_digest": run.plan_digest, "signature": None, "expires_at": None}
        connection.execute(insert(tables.approval).values(run_id=run.id, seq=gate.seq, n=n, at=at, **row))
        chain.append(connection, run_id=run.id, at=at, kind="approval", body={"seq": gate.seq, **row})
    return gate.seq
