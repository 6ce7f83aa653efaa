"""When schedules were due, and what came of it: one row for each time, whoever looks at the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from mcpops.core.clock import Clock, from_text, to_text
from mcpops.journal import chain, tables
from mcpops.journal.store import Store
from mcpops.model.run import RunState

FIRED, SKIPPED = "fired", "skipped"


@dataclass(frozen=True, kw_only=True)
class Firing:
    """One time at which a schedule was due, and what was decided: fired or skipped, and why."""

    environment: str
    schedule: str
    due_at: datetime
    verdict: str
    run_id: str
    why: str = ""


class AlreadyDecided(Exception):
    """Another scheduler decided on this time before."""


def insert_one(connection: Connection, clock: Clock, firing: Firing) -> None:
    """Write what was decided, in the caller's transaction. Raises AlreadyDecided."""
    table = tables.firing.c
    key = {"environment": firing.environment, "schedule": firing.schedule, "due_at": to_text(firing.due_at)}
    if connection.execute(select(table.run_id).where(*(table[name] == value for name, value in key.items()))).first():
        raise AlreadyDecided(f"{firing.environment}/{firing.schedule} at {key['due_at']}")
    at, run_id = to_text(clock.now()), firing.run_id
    row = {**key, "verdict": firing.verdict, "run_id": run_id, "why": firing.why}
    connection.execute(insert(tables.firing).values(**row, at=at))
    chain.append(connection, run_id=run_id, at=at, kind="firing", body=row)


def skip(store: Store, clock: Clock, firing: Firing) -> bool:
    """Write that a time is skipped; False when another scheduler decided on it before."""
    try:
        with store.write() as connection:
            insert_one(connection, clock, firing)
    except AlreadyDecided:
        return False
    return True


def last_due(store: Store, environment: str, schedule: str) -> datetime | None:
    """Return the latest time of a schedule that was decided on, None before its first."""
    table = tables.firing.c
    here = (table.environment == environment) & (table.schedule == schedule)
    with store.read() as connection:
        found = connection.execute(select(func.max(table.due_at)).where(here)).scalar()
    return from_text(found) if found else None


@dataclass(frozen=True)
class Standing:
    """How a schedule stands: its last success, its last run, the run of it that is still open."""

    last_success_at: datetime | None
    last_run_id: str | None
    last_state: RunState | None
    open_run_id: str | None


def standing(store: Store, environment: str, schedule: str) -> Standing:
    """Return how a schedule stands, by the runs that it asked for."""
    run = tables.run.c
    mine = (run.environment == environment) & (run.schedule == schedule)
    with store.read() as connection:
        success = connection.execute(select(func.max(run.ended_at)).where(mine & (run.state == RunState.DONE))).scalar()
        last = connection.execute(
            select(run.id, run.state).where(mine).order_by(run.started_at.desc()).limit(1)
        ).first()
        return Standing(
            last_success_at=from_text(success) if success else None,
            last_run_id=last.id if last else None,
            last_state=RunState(last.state) if last else None,
            open_run_id=_open(connection, environment, schedule),
        )


def _open(connection: Connection, environment: str, schedule: str) -> str | None:
    run = tables.run.c
    ended = [state for state in RunState if state.ended]
    mine = (run.environment == environment) & (run.schedule == schedule) & run.state.not_in(ended)
    return connection.execute(select(run.id).where(mine).order_by(run.started_at.desc()).limit(1)).scalar()
