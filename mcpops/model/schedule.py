"""Schedule: when a runbook runs by itself, and what becomes of times that were missed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any


class Misfire(StrEnum):
    """What to do about a time that passed while nobody looked (machine off, scheduler down, environment busy)."""

    SKIP = "skip"  # it is gone
    ONCE = "once"  # one run makes up for all of them, however late
    WITHIN = "within"  # one run, if the last of them is no longer ago than `within_s`


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a runbook runs by itself. `cron` has five fields, in the wall clock of `timezone`.

    Each time is put off by a part of `jitter_s` that is its own, so that many machines do not start at once. Nobody
    need see a failure: without a success for `max_age_s` the schedule is overdue. `ping` is a URL that hears of each
    success, and misses it.
    """

    name: str
    environment: str
    runbook: str
    cron: str
    timezone: str = "UTC"
    misfire: Misfire = Misfire.SKIP
    within_s: float = 0.0
    jitter_s: float = 0.0
    max_age_s: float | None = None
    ping: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name among the schedules of all environments."""
        return f"{self.environment}/{self.name}"

    def run_id(self, due_at: datetime) -> str:
        """Return the id of the run of one time: whoever asks gets the same, so it cannot begin twice."""
        at = due_at.astimezone(UTC)
        return f"{at:%Y%m%d-%H%M%S}-{_digest(f'{self.key}@{at.isoformat()}')[:6]}"

    def put_off(self, due_at: datetime) -> datetime:
        """Return when a time really counts: later by its part of the jitter."""
        part = int(_digest(f"jitter {self.key}@{due_at.astimezone(UTC).isoformat()}")[:8], 16) / 0xFFFFFFFF
        return due_at + timedelta(seconds=self.jitter_s * part)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
