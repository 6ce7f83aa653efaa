"""Letting old runs go: their rows leave the tables, the chain keeps that they were there, and who let them go."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select

from mcpops.core.clock import Clock, to_text
from mcpops.journal import seal, tables
from mcpops.journal.store import Store
from mcpops.model.run import RunState

_AT_ONCE = 1000  # runs a transaction: databases bound the values of a statement, and others want to write too
_OF_A_RUN = (tables.result, tables.attempt, tables.approval, tables.step, tables.snapshot)


def prunable(store: Store, before: datetime) -> list[str]:
    """Return the runs that ended before a time, the oldest first."""
    run, ended = tables.run.c, [state for state in RunState if state.ended]
    old = run.state.in_(ended) & (run.ended_at < to_text(before))
    with store.read() as connection:
        return list(connection.execute(select(run.id).where(old).order_by(run.ended_at)).scalars())


def prune(store: Store, clock: Clock, runs: list[str], *, by: str) -> None:
    """Remove runs from the tables. The chain stays whole: its rows of them say what they said."""
    for start in range(0, len(runs), _AT_ONCE):
        some = runs[start : start + _AT_ONCE]
        with store.write() as connection:
            for table in _OF_A_RUN:
                connection.execute(delete(table).where(table.c.run_id.in_(some)))
            connection.execute(delete(tables.run).where(tables.run.c.id.in_(some)))
            at, body = to_text(clock.now()), {"runs": some, "by": by}
            seal.append(connection, store.sealer, run_id="", at=at, kind="prune", body=body)
