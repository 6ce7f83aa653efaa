"""Timers that wake `mcpops schedule tick`: systemd units, or a line for cron.

A timer only wakes. What is due, what was missed and what is told of it is decided by the tick, so a timer that comes
late or twice does no harm. It comes at the schedule's own times where systemd can say them, and every few minutes
besides: daylight saving, a missed wake-up and a busy environment are seen to then.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from mcpops.model.schedule import Schedule

SAFETY = "5min"  # shorter than `engine.schedule.GRACE`
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # of cron's 0 to 7
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_FIELD = re.compile(r"(\*|\d+(-\d+)?)(/\d+)?")

SERVICE = """\
# Written by `mcpops schedule install`.
[Unit]
Description=mcpops: {key}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={command}
# A run that is stopped in the middle is taken up by the next tick or `mcpops runs resume`.
TimeoutStartSec=infinity
# What a tick returns of a run that failed is a failed unit, as it should be; busy is none.
SuccessExitStatus=4
UMask=0077
"""

TIMER = """\
# Written by `mcpops schedule install`.
[Unit]
Description=mcpops: wake {key}

[Timer]
{calendar}OnBootSec=2min
OnUnitInactiveSec={safety}
AccuracySec=1s
Persistent=true

[Install]
WantedBy=timers.target
"""


def units(project: str, schedules: Sequence[Schedule], program: Sequence[str]) -> dict[str, str]:
    """Return the units of all schedules by file name: a service and a timer each."""
    found = {}
    for one in schedules:
        name = f"mcpops-{project}-{one.environment}-{one.name}"
        argv = [*program, "schedule", "tick", "-e", one.environment, "--only", one.name]
        lines = "".join(f"OnCalendar={calendar}\n" for calendar in calendars(one))
        command = shlex.join(argv).replace("%", "%%")
        found[f"{name}.service"] = SERVICE.format(key=one.key, command=command)
        found[f"{name}.timer"] = TIMER.format(key=one.key, calendar=lines, safety=SAFETY)
    return found


def calendars(schedule: Schedule) -> list[str]:
    """Return a cron expression as systemd.time(7) says it; nothing for what only cron can say.

    Cron fires on a day that fits the day of the month *or* that of the week where both are given: two lines.
    """
    fields = schedule.cron.lower().split()
    if len(fields) != 5:
        return []
    minute, hour, day, month, weekday = fields
    for n, name in enumerate(_MONTHS, 1):
        month = month.replace(name, str(n))
    for n, name in enumerate(_DAYS[:7]):
        weekday = weekday.replace(name.lower(), str(n))
    parts = [_part(field, first) for field, first in ((minute, 0), (hour, 0), (day, 1), (month, 1))]
    days = _weekdays(weekday)
    if None in parts or days is None:
        return []
    at = f"{parts[1]}:{parts[0]}:00 {schedule.timezone}"
    whole = [f"*-{parts[3]}-{parts[2]} {at}"] if day != "*" or weekday == "*" else []
    return whole + ([f"{days} *-{parts[3]}-* {at}"] if weekday != "*" else [])


def cron_line(program: Sequence[str]) -> str:
    """Return the line for crontab(5) that looks each minute."""
    return f"* * * * * {shlex.join([*program, 'schedule', 'tick', '-q'])}".replace("%", "\\%")


def unit_directory() -> Path:
    """Return where units of this account belong."""
    return Path("/etc/systemd/system") if os.geteuid() == 0 else Path("~/.config/systemd/user").expanduser()


def _part(field: str, first: int) -> str | None:
    """Return one field in systemd's words, None for what it has none for."""
    said = []
    for piece in field.split(","):
        found = _FIELD.fullmatch(piece)
        if not found:
            return None
        base, step = found[1], found[3] or ""
        said.append((str(first) if base == "*" and step else base.replace("-", "..")) + step)
    return ",".join(said)


def _weekdays(field: str) -> str | None:
    if field == "*":
        return ""
    said = []
    for piece in field.split(","):
        found = re.fullmatch(r"([0-7])(?:-([0-7]))?", piece)
        if not found:
            return None
        first, last = found[1], found[2]
        said.append(_DAYS[int(first)] + (f"..{_DAYS[int(last)]}" if last else ""))
    return ",".join(said)
