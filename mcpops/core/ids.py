"""Names of runs: sortable by time, short enough to type, unique without coordination."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime


def new_run_id(at: datetime) -> str:
    """Return `YYYYMMDD-HHMMSS-xxxxxx`: UTC, and 24 random bits against two in one second."""
    return f"{at.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def new_fence(at: datetime, highest: int = 0) -> int:
    """Return a fence number (Unix time in ms) above `highest`.

    A number from the clock needs no coordination: a rollback without the journal still outranks the deploy
    that it interrupts, and hosts refuse whatever is lower than the highest they have seen.
    """
    return max(int(at.timestamp() * 1000), highest + 1)
