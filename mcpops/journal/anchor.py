"""Anchors: sealed heads, kept where the control node can add and not change.

An anchor's name is the number of its seal, so a journal that was written anew collides with what was anchored before.
Whoever verifies asks that each anchor lies on the chain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from sqlalchemy import select

from mcpops.core.canonical import canonical
from mcpops.journal import seal, tables
from mcpops.journal.store import Store

PREFIX = "anchors/"


class Place(Protocol):
    """Where anchors go: `objects.store.ObjectStore` is one."""

    def put_new(self, name: str, data: bytes) -> None:
        """Write an object that is not there yet; raise when it is, with other content."""

    def get(self, name: str) -> bytes:
        """Return the content of an object."""

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names that begin with `prefix`."""


def put(store: Store, place: Place) -> int | None:
    """Anchor the last seal; return its number, or None when nothing is sealed yet."""
    with store.read() as connection:
        row = connection.execute(select(tables.seal).order_by(tables.seal.c.number.desc()).limit(1)).mappings().first()
    if row is None:
        return None
    place.put_new(f"{PREFIX}{row['number']:012d}.json", canonical(dict(row)))
    return int(row["number"])


def all_of(place: Place) -> list[Mapping[str, Any]]:
    """Return the anchors; raise ValueError for one that is none, or that its key did not sign."""
    found: list[Mapping[str, Any]] = []
    for name in place.names(PREFIX):
        row = json.loads(place.get(name))
        if not isinstance(row, dict) or not seal.is_signed(row):
            msg = f"{name} is no anchor"
            raise ValueError(msg)
        found.append(row)
    return found
