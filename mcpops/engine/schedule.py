"""When schedules are due, and what to do about it. Pure: the clock and the record come in as values.

cronsim reads cron expressions as Debian's cron does, daylight saving included: a job at a fixed hour that the clock
jumps over runs right after the jump, and one in an hour that comes twice runs once; `*` in the hour follows real time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from mcpops.model.schedule import Misfire, Schedule

# How late `skip` may still be: whoever looks at the clock does so every few minutes (`schedule install`: 5).
GRACE = timedelta(minutes=10)
# The most times that are looked at after a long sleep: two months of every minute.
_MOST = 100_000


@dataclass(frozen=True)
class Decision:
    """What to do about a time: fire it, or write that it was skipped, and why."""

    due_at: datetime
    fire: bool
    why: str = ""


def upcoming(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Yield the times of a schedule after a moment, in UTC, without jitter."""
    for at in CronSim(schedule.cron, after.astimezone(ZoneInfo(schedule.timezone))):
        yield at.astimezone(UTC)


def pending(schedule: Schedule, last_due: datetime | None, now: datetime) -> list[datetime]:
    """Return the times that nobody decided on and whose moment has come; before the first decision only fresh ones."""
    found: list[datetime] = []
    # A time that is put off may lie before the last one that was decided on: nothing before that counts any more.
    since = last_due if last_due is not None else now - GRACE - timedelta(seconds=schedule.jitter_s)
    for at in upcoming(schedule, since):
        if schedule.put_off(at) > now or len(found) >= _MOST:
            break
        found.append(at)
    return found if last_due is not None else found[-1:]


def judge(schedule: Schedule, due: list[datetime], now: datetime, *, open_run: str | None) -> list[Decision]:
    """Return what to do about pending times, the oldest first; a time without a decision is asked about again.

    At most one is fired. While a run of the schedule is open none is: there is never more than one.
    """
    if not due:
        return []
    *missed, latest = due
    decisions = []
    if missed:
        many = f"{len(missed)} times from {missed[0].isoformat()} on were missed"
        decisions.append(Decision(missed[-1], fire=False, why=many if len(missed) > 1 else "it was missed"))
    late = now - schedule.put_off(latest)
    if late > _patience(schedule):
        said = f"{int(late.total_seconds())} s late, and the policy is {schedule.misfire.value}"
        why = f"{said}; run {open_run} of it was open" if open_run else said
        decisions.append(Decision(latest, fire=False, why=why))
    elif not open_run:
        decisions.append(Decision(latest, fire=True))
    return decisions


def is_overdue(schedule: Schedule, last_success_at: datetime | None, now: datetime) -> bool:
    """Whether too long a time passed without a success; one that never succeeded is."""
    if schedule.max_age_s is None:
        return False
    return last_success_at is None or now - last_success_at > timedelta(seconds=schedule.max_age_s)


def _patience(schedule: Schedule) -> timedelta:
    if schedule.misfire is Misfire.ONCE:
        return timedelta.max
    return timedelta(seconds=schedule.within_s) if schedule.misfire is Misfire.WITHIN else GRACE
