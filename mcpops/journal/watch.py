"""What nobody else tells: a schedule without a success, a run that nobody drives any more. Each is told once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from mcpops.core.clock import Clock, to_text
from mcpops.journal import lease, outbox, tables
from mcpops.journal.store import Store
from mcpops.model.run import RunState

AGAIN = timedelta(hours=24)  # what is still so after a day is told again


def tell_overdue(store: Store, clock: Clock, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a notice for each schedule that is overdue."""
    for row in rows:
        name = f"{row['environment']}/{row['name']}"
        last = row["last_success_at"] or "never"
        reason = f"schedule {name} had no success in time; the last one: {last}"
        same = {"environment": row["environment"], "runbook": row["runbook"], "schedule": row["name"]}
        _once(store, clock, row["environment"], "overdue", f"overdue:{name}:{last}", {**same, "reason": reason})


def tell_interrupted(store: Store, clock: Clock) -> None:
    """Write a notice for each run that says it runs, and that nobody drives."""
    with store.read() as connection:
        names = connection.execute(select(tables.environment.c.name).where(tables.environment.c.run_id.is_not(None)))
        held = [lease.current(connection, name) for name in names.scalars().all()]
        left = [one for one in held if one and lease.is_dead(one, clock)]
        run = tables.run.c
        driven = run.id.in_([one.run_id for one in left]) & (run.state == RunState.RUNNING)
        books = {row.id: row.runbook for row in connection.execute(select(run.id, run.runbook).where(driven))}
    for one in left:
        if one.run_id in books:
            reason = f"nobody drives it any more; `mcpops runs resume {one.run_id}` goes on"
            body = {"environment": one.environment, "runbook": books[one.run_id], "run": one.run_id, "reason": reason}
            key = f"interrupted:{one.run_id}:{one.fence}"
            _once(store, clock, one.environment, "interrupted", key, body)


def _once(store: Store, clock: Clock, environment: str, event: str, key: str, body: Mapping[str, Any]) -> None:
    """Write a notice on each channel that wants it, unless the same was written within a day."""
    channels = store.wanted(environment, event, None)
    if not channels:
        return
    with store.read() as connection:
        if _is_told(connection, clock, key):
            return
    with store.write() as connection:
        if not _is_told(connection, clock, key):
            outbox.enqueue(connection, channels, run_id=key, at=clock.now(), body={"event": event, **body})


def _is_told(connection: Connection, clock: Clock, key: str) -> bool:
    last = select(func.max(tables.notice.c.at)).where(tables.notice.c.run_id == key)
    at = connection.execute(last).scalar()
    return at is not None and at > to_text(clock.now() - AGAIN)
