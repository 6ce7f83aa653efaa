"""Decisions on the plan of a run that waits at a gate; bound to the digest of that very plan."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select

from mcpops.core.clock import Clock, to_text
from mcpops.core.errors import Refused, UsageError
from mcpops.journal import chain, tables
from mcpops.journal.standing import require_open
from mcpops.journal.store import Store
from mcpops.model.run import Run, StepState


def decide(store: Store, clock: Clock, run: Run, *, decision: str, by: str) -> int:
    """Write `approve` or `reject` for the gate that `run` waits at; return the gate's seq.

    Raises UsageError when the run waits at no gate or ended, Refused when the requester approves their own plan.
    """
    at = to_text(clock.now())
    with store.write() as connection:
        seq = _gate(connection, run)
        if decision == "approve" and by == run.requested_by:
            raise Refused(f"{by} asked for run {run.id} and cannot approve it", hint="another person decides")
        mine = (tables.approval.c.run_id == run.id) & (tables.approval.c.seq == seq)
        n = (connection.execute(select(func.max(tables.approval.c.n)).where(mine)).scalar() or 0) + 1
        row = {"decision": decision, "by": by, "plan_digest": run.plan_digest, "signature": None, "expires_at": None}
        connection.execute(insert(tables.approval).values(run_id=run.id, seq=seq, n=n, at=at, **row))
        chain.append(connection, run_id=run.id, at=at, kind="approval", body={"seq": seq, **row})
    return seq


def _gate(connection: Connection, run: Run) -> int:
    """Return the seq of the gate that a run waits at now."""
    state = require_open(connection, run.id, otherwise="it waits for no decision")
    waits = (tables.step.c.run_id == run.id) & (tables.step.c.state == StepState.WAITING)
    seq = connection.execute(select(func.min(tables.step.c.seq)).where(waits)).scalar_one()
    if seq is None:
        raise UsageError(f"run {run.id} waits for no decision", detail=f"it is {state.value}")
    return int(seq)
