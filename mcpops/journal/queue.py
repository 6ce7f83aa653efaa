"""What a worker may do now: the only place that says so, on every database.

An environment whose lease somebody holds has nothing to do but, when that holder is gone, the same run if it was
queued. Else the first of its runs: one that waited and was decided on, or the oldest that is queued.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from mcpops.core.clock import Clock
from mcpops.journal import lease, tables
from mcpops.journal.store import Store
from mcpops.model.run import RunState, StepState

# A run that ended its worker so often is left to a person: it may be what ends them.
MOST_INTERRUPTIONS = 10


def runnable(store: Store, clock: Clock, aside: Collection[str] = ()) -> list[str]:
    """Return the runs that a worker may begin or take over, at most one an environment, the oldest first.

    Those `aside` are passed over: this worker could not begin them.
    """
    run = tables.run.c
    open_ = run.queued & run.state.in_([RunState.QUEUED, RunState.RUNNING, RunState.WAITING])
    query = select(run.id, run.environment, run.state).where(open_).order_by(run.started_at, run.id)
    with store.read() as connection:
        rows = [row for row in connection.execute(query) if row.id not in aside]
        names = dict.fromkeys(row.environment for row in rows)
        found = [_next(connection, clock, name, [row for row in rows if row.environment == name]) for name in names]
    return [run_id for run_id in found if run_id]


def _next(connection: Connection, clock: Clock, name: str, rows: Sequence[Any]) -> str | None:
    if lease.locked_by(connection, name):
        return None
    held = lease.current(connection, name)
    if held:
        mine = any(row.id == held.run_id for row in rows)
        again = mine and lease.is_dead(held, clock) and _interruptions(connection, held.run_id) < MOST_INTERRUPTIONS
        return held.run_id if again else None
    decided = (row.id for row in rows if row.state == RunState.WAITING and _is_decided(connection, row.id))
    queued = (row.id for row in rows if row.state == RunState.QUEUED)
    return next(decided, None) or next(queued, None)


def _interruptions(connection: Connection, run_id: str) -> int:
    """Return how often the step that a run is in was interrupted before."""
    step, attempt = tables.step.c, tables.attempt.c
    current = select(func.max(step.seq)).where((step.run_id == run_id) & (step.state == StepState.RUNNING))
    again = (attempt.run_id == run_id) & (attempt.seq == current.scalar_subquery()) & (attempt.reason == "interrupted")
    return connection.execute(select(func.count()).where(again)).scalar_one()


def _is_decided(connection: Connection, run_id: str) -> bool:
    """Whether somebody decided since the run began to wait: what it was told before did not let it go on."""
    of_run = select(tables.record.c.kind).where(tables.record.c.run_id == run_id).order_by(tables.record.c.n.desc())
    told = connection.execute(of_run.where(tables.record.c.kind.in_(("approval", "end"))).limit(1)).scalar()
    return told == "approval"
