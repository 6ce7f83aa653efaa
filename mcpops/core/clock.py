"""Time: aware UTC only, RFC 3339 in text; naive values are refused."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; passed in, so that tests can stand still."""

    def now(self) -> datetime:
        """Return the wall clock, aware, in UTC."""

    def monotonic_s(self) -> float:
        """Return seconds that never go back, for durations."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the wall clock, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds that never go back, for durations."""
        return time.monotonic()


def to_text(at: datetime) -> str:
    """Return RFC 3339 with milliseconds and `Z`; raise ValueError for a naive time."""
    if at.tzinfo is None:
        msg = "a time without a zone; expected an aware datetime"
        raise ValueError(msg)
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_text(text: str) -> datetime:
    """Read what `to_text` wrote; raise ValueError for anything naive."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        msg = f"a time without a zone: {text!r}"
        raise ValueError(msg)
    return at
