"""The hash chain: each row's digest covers the row and the digest before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, func, insert, select

from mcpops.core.canonical import digest
from mcpops.journal.tables import record

GENESIS = "sha256:" + "0" * 64


def append(connection: Connection, *, run_id: str, at: str, kind: str, body: Mapping[str, Any]) -> str:
    """Add a row to the chain inside the caller's transaction; return its digest."""
    last = connection.execute(select(record.c.n, record.c.sha256).order_by(record.c.n.desc()).limit(1)).first()
    n, previous = (last.n + 1, last.sha256) if last else (1, GENESIS)
    row = {"n": n, "run_id": run_id, "at": at, "kind": kind, "body": dict(body), "previous": previous}
    sha256 = digest(row)
    connection.execute(insert(record).values(**row, sha256=sha256))
    return sha256


def broken(rows: Iterable[Mapping[Any, Any]], previous: str = GENESIS, expected: int = 1) -> str | None:
    """Return what is wrong with rows that follow the digest `previous` as number `expected` and on, or None."""
    for row in rows:
        if row["n"] != expected:
            return f"row {expected} is missing"
        body = {key: row[key] for key in ("n", "run_id", "at", "kind", "body", "previous")}
        if row["previous"] != previous or digest(body) != row["sha256"]:
            return f"row {row['n']} ({row['kind']} of run {row['run_id']}) is not what was written"
        previous, expected = row["sha256"], expected + 1
    return None


def verify(connection: Connection, run_id: str | None = None) -> str | None:
    """Return what is wrong with the chain, naming the row, or None: all of it, or the part from a run's first row on.

    A part is whole when it hangs on the row before it, whatever that one hangs on.
    """
    rows = select(record).order_by(record.c.n)
    previous, first = GENESIS, 1
    if run_id is not None:
        of_run = select(func.min(record.c.n), func.max(record.c.n)).where(record.c.run_id == run_id)
        first, last = connection.execute(of_run).one()
        if first is None:
            return None  # that a run has no rows is for others to say
        rows = rows.where(record.c.n.between(first, last))
        if first > 1:
            before = connection.execute(select(record.c.sha256).where(record.c.n == first - 1)).scalar_one_or_none()
            if before is None:
                return f"row {first - 1} is missing"
            previous = before
    return broken(connection.execute(rows).mappings(), previous, first)


def head(connection: Connection, run_id: str) -> str | None:
    """Return the digest of the last row of a run, or None when the run has none."""
    last = select(func.max(record.c.n)).where(record.c.run_id == run_id).scalar_subquery()
    return connection.execute(select(record.c.sha256).where(record.c.n == last)).scalar_one_or_none()
