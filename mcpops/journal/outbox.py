"""What is to be told outside: written in the transaction of what it tells, delivered afterwards until it arrived.

A notice has an id that stays the same over all tries, so that a receiver can tell a repetition. The chain keeps that it
was to be told, and that it was.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from mcpops.core.canonical import digest
from mcpops.core.clock import Clock, from_text, to_text
from mcpops.journal import chain, tables
from mcpops.journal.store import Store

CLAIM = timedelta(seconds=60)  # longer than a try may take: meanwhile nobody else tries
FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(hours=1)


@dataclass(frozen=True)
class Notice:
    """One thing to tell on one channel; `tries` were made before."""

    id: str
    run_id: str
    channel: str
    body: Mapping[str, Any]
    tries: int


def enqueue(
    connection: Connection, channels: Sequence[str], *, run_id: str, at: datetime, body: Mapping[str, Any]
) -> None:
    """Write a notice for each channel, in the caller's transaction; `body` says the event."""
    when = to_text(at)
    for channel in channels:
        notice_id = f"notice-{secrets.token_hex(8)}"
        told = {**body, "id": notice_id, "at": when}
        row = {"id": notice_id, "run_id": run_id, "channel": channel, "body": told, "at": when, "next_at": when}
        connection.execute(insert(tables.notice).values(**row, tries=0, error=""))
        kept = {"id": notice_id, "channel": channel, "body": digest(told)}
        chain.append(connection, run_id=run_id, at=when, kind="notice", body=kept)


def claim(store: Store, clock: Clock) -> Notice | None:
    """Return the oldest notice whose time has come, and keep others from trying it for a minute; None without one."""
    now, notice = clock.now(), tables.notice
    due = notice.c.delivered_at.is_(None) & (notice.c.next_at <= to_text(now))
    with store.read() as connection:  # mostly there is none, and then nothing is locked
        if connection.execute(select(notice.c.id).where(due).limit(1)).first() is None:
            return None
    with store.write() as connection:
        row = connection.execute(select(notice).where(due).order_by(notice.c.next_at, notice.c.at).limit(1)).first()
        if row is None:
            return None
        connection.execute(update(notice).where(notice.c.id == row.id).values(next_at=to_text(now + CLAIM)))
    return Notice(row.id, row.run_id, row.channel, row.body, row.tries)


def delivered(store: Store, clock: Clock, notice: Notice) -> None:
    """Write that a notice arrived."""
    at = to_text(clock.now())
    open_ = (tables.notice.c.id == notice.id) & tables.notice.c.delivered_at.is_(None)
    with store.write() as connection:
        values = {"delivered_at": at, "tries": notice.tries + 1, "error": ""}
        if connection.execute(update(tables.notice).where(open_).values(**values)).rowcount:
            chain.append(connection, run_id=notice.run_id, at=at, kind="told", body={"id": notice.id, "at": at})


def failed(store: Store, clock: Clock, notice: Notice, why: str) -> None:
    """Write why a notice did not arrive, and when to try again: later each time, for ever."""
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(notice.tries, 16))
    values = {"tries": notice.tries + 1, "next_at": to_text(clock.now() + wait), "error": why}
    with store.write() as connection:
        connection.execute(update(tables.notice).where(tables.notice.c.id == notice.id).values(**values))


@dataclass(frozen=True)
class Undelivered:
    """How many notices have not arrived after a first try, since when, and what the last try said."""

    count: int
    since: datetime
    error: str


def undelivered(store: Store) -> Undelivered | None:
    """Return what does not arrive, or None."""
    notice = tables.notice
    late = notice.c.delivered_at.is_(None) & (notice.c.tries > 0)
    with store.read() as connection:
        count, since = connection.execute(select(func.count(), func.min(notice.c.at)).where(late)).one()
        if not count:
            return None
        last = select(notice.c.error).where(late).order_by(notice.c.next_at.desc()).limit(1)
        return Undelivered(count, from_text(since), connection.execute(last).scalar_one())
