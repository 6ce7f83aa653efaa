"""The record in a form that needs no journal: JSON, a line a row of the chain and a line a seal, in their order."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import select

from mcpops.journal import chain, seal, tables
from mcpops.journal.store import Store


def lines(store: Store, since: int = 0) -> Iterator[str]:
    """Yield the rows after number `since`, and the seals of those, each as one line of JSON."""
    with store.read() as connection:
        for row in connection.execute(select(tables.record).where(tables.record.c.n > since).order_by("n")).mappings():
            yield json.dumps({"row": dict(row)}, ensure_ascii=False)
        for row in connection.execute(select(tables.seal).where(tables.seal.c.n > since).order_by("number")).mappings():
            yield json.dumps({"seal": dict(row)}, ensure_ascii=False)


def wrong(text: Iterable[str], trusted: Collection[str]) -> tuple[int, str | None]:
    """Verify an export without its journal: how many rows, and what is wrong or None. Raises ValueError, KeyError.

    An export of a part is whole when it hangs together; what its first row hangs on is not in it.
    """
    rows: list[dict[str, Any]] = []
    seals: list[dict[str, Any]] = []
    for line in text:
        said = json.loads(line)
        (rows if "row" in said else seals).append(said.get("row") or said["seal"])
    if not rows:
        return 0, None
    digests, first = {row["n"]: row["sha256"] for row in rows}, seals[0]["number"] if seals else 1
    last, problem = seal.broken(seals, digests, trusted, first=first)
    problem = chain.broken(rows, rows[0]["previous"], rows[0]["n"]) or problem
    unsealed = (row["n"] for row in rows if row["n"] > last and row["body"].get(seal.SEALED))
    missing = next(unsealed, None)
    return len(rows), problem or (None if missing is None else f"the seal of row {missing} is missing")
