"""What the chain says beside the story of each run: firings, notices, and runs that were let go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select

from mcpops.core.canonical import digest
from mcpops.journal import tables

KINDS = ("firing", "notice", "told", "prune")  # rows that tell nothing of what a run did

Key = tuple[str, ...]


def pruned(connection: Connection) -> set[str]:
    """Return the runs that were let go."""
    found = connection.execute(select(tables.record.c.body).where(tables.record.c.kind == "prune")).scalars()
    return {run_id for body in found for run_id in body["runs"]}


def wrong(connection: Connection) -> str | None:
    """Return where the tables of firings and notices say something else than the chain, or None."""
    told: dict[Key, tuple[Any, ...]] = {}
    rows = connection.execute(select(tables.record).where(tables.record.c.kind.in_(KINDS)).order_by(tables.record.c.n))
    for row in rows:
        if row.kind == "firing":
            body = row.body
            key: Key = ("firing", body["environment"], body["schedule"], body["due_at"])
            told[key] = (body["verdict"], body["run_id"], body["why"])
        elif row.kind == "notice":
            told["notice", row.body["id"]] = (row.body["channel"], row.body["body"], None)
        elif row.kind == "told":
            channel, body, _ = told["notice", row.body["id"]]
            told["notice", row.body["id"]] = (channel, body, row.body["at"])
    seen = dict(_seen(connection))
    for key in sorted(told.keys() | seen.keys()):
        if told.get(key) != seen.get(key):
            says = f"it is {seen.get(key)!r}, the record says {told.get(key)!r}"
            return f"{' '.join(key)} is not what was written: {says}"
    return None


def _seen(connection: Connection) -> Iterator[tuple[Key, tuple[Any, ...]]]:
    for row in connection.execute(select(tables.firing)):
        yield ("firing", row.environment, row.schedule, row.due_at), (row.verdict, row.run_id, row.why)
    for row in connection.execute(select(tables.notice)):
        yield ("notice", row.id), (row.channel, digest(row.body), row.delivered_at)
