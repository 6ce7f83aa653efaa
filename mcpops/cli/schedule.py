"""`mcpops schedule`: runbooks that run by themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcpops.cli.common import Session, common_options, tell
from mcpops.core.errors import Busy, ExitCode, McpopsError, UsageError

if TYPE_CHECKING:
    from mcpops.cli.record import Record
    from mcpops.journal.firings import Firing
    from mcpops.model.schedule import Schedule

READS = "Exit status: 0 ok, 2 usage."


@click.group()
def schedule() -> None:
    """List schedules, see what is next, fire what is due, install timers."""


def _open(session: Session) -> tuple[Record, list[Schedule]]:
    """Return the journal and the schedules that are meant: all, or those of -e."""
    from mcpops.cli.record import open_record  # noqa: PLC0415

    record = open_record(session)
    wanted = [one for one in record.settings.schedules if session.environment in (None, one.environment)]
    return record, wanted


def standings(record: Record, schedules: list[Schedule]) -> list[dict[str, Any]]:
    """Return how each schedule stands: last success, next time, overdue or not."""
    from mcpops.core.clock import to_text  # noqa: PLC0415
    from mcpops.journal.firings import standing  # noqa: PLC0415

    if not schedules:
        return []
    from mcpops.engine.schedule import is_overdue, upcoming  # noqa: PLC0415

    now, rows = record.clock.now(), []
    for one in schedules:
        seen = standing(record.store, one.environment, one.name)
        rows.append(
            {
                "name": one.name,
                "environment": one.environment,
                "runbook": one.runbook,
                "cron": one.cron,
                "timezone": one.timezone,
                "last_success_at": to_text(seen.last_success_at) if seen.last_success_at else None,
                "last_run": seen.last_run_id,
                "last_state": seen.last_state.value if seen.last_state else None,
                "open_run": seen.open_run_id,
                "next_at": next((to_text(one.put_off(at)) for at in upcoming(one, now)), None),
                "overdue": is_overdue(one, seen.last_success_at, now),
            }
        )
    return rows


@schedule.command("list", epilog=READS)
@common_options
@click.pass_obj
def list_(session: Session) -> int:
    """List schedules: when each succeeded last, when it is next, whether it is overdue."""
    rows = standings(*_open(session))
    lines = [
        f"{row['environment']}/{row['name']:<20} {row['runbook']:<12} "
        f"last success {row['last_success_at'] or 'never':<24} next {row['next_at']}"
        f"{'  OVERDUE' if row['overdue'] else ''}"
        for row in rows
    ]
    session.emit({"schedules": rows}, "\n".join(lines) or "no schedules in mcpops.yml")
    return 0


@schedule.command("next", epilog=READS)
@click.option(
    "--count", default=5, show_default=True, type=click.IntRange(1, 1000), metavar="N", help="How many times."
)
@common_options
@click.pass_obj
def next_(session: Session, count: int) -> int:
    """Show the next times, as the clock of each schedule's time zone has them."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    from mcpops.engine.schedule import upcoming  # noqa: PLC0415

    record, schedules = _open(session)
    now = record.clock.now()
    times = [
        {"at": one.put_off(at).astimezone(ZoneInfo(one.timezone)).isoformat(timespec="seconds"), "schedule": one.key}
        for one in schedules
        for at in islice(upcoming(one, now), count)
    ]
    times = sorted(times, key=lambda row: datetime.fromisoformat(row["at"]))[:count]
    session.emit({"times": times}, "\n".join(f"{row['at']}  {row['schedule']}" for row in times) or "no schedules")
    return 0


@schedule.command(
    epilog="Exit status: 0 nothing was due, or what was due went well; else that of the first run that did not; 4 an "
    "environment was busy: the next tick tries again, as long as the policy allows."
)
@click.option("--only", metavar="NAME", help="Only this schedule.")
@click.option("--queue", is_flag=True, help="Leave runs to `mcpops worker`.")
@common_options
@click.pass_obj
def tick(session: Session, only: str | None, queue: bool) -> int:
    """Fire what is due, once each time however many ticks there are, and tell what is to be told."""
    record, schedules = _open(session)
    if only and only not in {one.name for one in schedules}:
        raise UsageError(f"no schedule {only!r}", hint=f"known: {', '.join(one.name for one in schedules) or 'none'}")
    worst, done = ExitCode.OK, []
    for one in schedules:
        if only in (None, one.name):
            for at, code in _tick(session, record, one, queue=queue):
                done.append({"schedule": one.key, "due_at": at, "code": int(code)})
                worst = worst if worst is not ExitCode.OK else code
    _watch(record, schedules)
    record.tell_outside()
    write_metrics(record)
    session.report({"fired": done}, "\n".join(f"{row['schedule']} of {row['due_at']}: {row['code']}" for row in done))
    return int(worst)


def _tick(session: Session, record: Record, one: Schedule, *, queue: bool) -> Iterator[tuple[str, ExitCode]]:
    """Decide on what is due of one schedule; yield the time and exit code of what was fired."""
    from mcpops.core.clock import to_text  # noqa: PLC0415
    from mcpops.engine.schedule import judge, pending  # noqa: PLC0415
    from mcpops.journal import firings  # noqa: PLC0415

    now = record.clock.now()
    due = pending(one, firings.last_due(record.store, one.environment, one.name), now)
    still = firings.standing(record.store, one.environment, one.name).open_run_id
    for decision in judge(one, due, now, open_run=still):
        verdict = firings.FIRED if decision.fire else firings.SKIPPED
        firing = firings.Firing(
            environment=one.environment,
            schedule=one.name,
            due_at=decision.due_at,
            verdict=verdict,
            run_id=one.run_id(decision.due_at),
            why=decision.why,
        )
        if decision.fire:
            code = _fire(session, one, firing, queue=queue)
            if code is not None:
                yield to_text(decision.due_at), code
        elif firings.skip(record.store, record.clock, firing):
            tell(f"{one.key}: {to_text(decision.due_at)} is skipped: {decision.why}")


def _fire(session: Session, one: Schedule, firing: Firing, *, queue: bool) -> ExitCode | None:
    """Begin the run of a due time; None when another scheduler had it. What goes wrong is told, and is an exit code."""
    from dataclasses import replace  # noqa: PLC0415

    from mcpops.cli import launch, wire  # noqa: PLC0415
    from mcpops.cli.plan import make_plan  # noqa: PLC0415
    from mcpops.journal.firings import AlreadyDecided  # noqa: PLC0415

    mine = replace(session, environment=one.environment, json=False, background=True)
    try:
        place = wire.open_workplace(mine)
        plan = make_plan(place, one.runbook, one.parameters, run_id=firing.run_id)
        return (launch.enqueue if queue else launch.begin)(mine, place, plan, firing=firing)
    except AlreadyDecided:
        return None
    except Busy as error:
        tell(f"{one.key}: {error.message}: {error.detail}; the next tick tries again")
        return error.code
    except McpopsError as error:  # the other schedules go on
        tell(f"mcpops: error: {one.key}: {error.message}: {error.detail}")
        return error.code


def _watch(record: Record, schedules: list[Schedule]) -> None:
    """Write notices of what nobody else tells: schedules without success, and runs that nobody drives any more."""
    from mcpops.journal.watch import tell_interrupted, tell_overdue  # noqa: PLC0415

    # One that is at work just now is told when that comes to nothing.
    overdue = [row for row in standings(record, schedules) if row["overdue"] and not row["open_run"]]
    tell_overdue(record.store, record.clock, overdue)
    tell_interrupted(record.store, record.clock)


def write_metrics(record: Record) -> None:
    """Write the metrics file of the settings, for the textfile collector of a node exporter; a failure is told."""
    if record.settings.metrics_file is None:
        return
    from mcpops.cli.metrics import metrics  # noqa: PLC0415
    from mcpops.core.files import write_atomic  # noqa: PLC0415

    try:
        write_atomic(record.path(record.settings.metrics_file), metrics(record), mode=0o644)
    except (OSError, McpopsError) as error:
        tell(f"mcpops: warning: no metrics: {error}")


@schedule.command(epilog="Exit status: 0 ok, 2 usage.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where systemd looks (else /etc/systemd/system for root, ~/.config/systemd/user for others).",
)
@click.option("--print", "only_print", is_flag=True, help="Print the units, or the line for cron, and write nothing.")
@click.option("--cron", is_flag=True, help="Print one line for crontab(5) instead, for a machine without systemd.")
@common_options
@click.pass_obj
def install(session: Session, directory: Path | None, only_print: bool, cron: bool) -> int:
    """Write a systemd timer for each schedule; times and policies stay with mcpops, a timer only wakes it."""
    from mcpops.cli import timers  # noqa: PLC0415
    from mcpops.core.files import write_atomic  # noqa: PLC0415

    record, schedules = _open(session)
    program = [sys.executable, "-P", "-m", "mcpops.cli", "-C", str(record.project)]
    if cron:
        session.emit({"cron": timers.cron_line(program)}, timers.cron_line(program))
        return 0
    units = timers.units(record.settings.name, schedules, program)
    if only_print:
        session.emit({"units": units}, "\n".join(f"# {name}\n{text}" for name, text in units.items()))
        return 0
    target = directory or timers.unit_directory()
    for name, text in units.items():
        write_atomic(target / name, text, mode=0o644)
    user = "" if target == Path("/etc/systemd/system") else " --user"
    names = " ".join(name for name in units if name.endswith(".timer"))
    session.report(
        {"directory": str(target), "units": sorted(units)},
        f"{len(units)} units in {target}\nnext: systemctl{user} daemon-reload; systemctl{user} enable --now {names}",
    )
    return 0
