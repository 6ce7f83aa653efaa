"""`mcpops runs`: the record."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcpops.cli.common import Session, common_options
from mcpops.core.errors import ExitCode

if TYPE_CHECKING:
    from mcpops.journal.queries import Journal
    from mcpops.model.run import Run

WATCH_PERIOD_S = 0.3
READS = "Exit status: 0 ok, 2 usage (no such run)."


@click.group()
def runs() -> None:
    """List, show, watch, resume, abandon and export runs."""


@runs.command("list", epilog=READS)
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="How many, the newest first.",
)
@common_options
@click.pass_obj
def list_(session: Session, limit: int) -> int:
    """List runs, the newest first."""
    from mcpops.cli.record import open_record  # noqa: PLC0415
    from mcpops.cli.show import interrupted  # noqa: PLC0415
    from mcpops.core.clock import to_text  # noqa: PLC0415

    journal = open_record(session).journal
    found = [(run, interrupted(journal, run)) for run in journal.runs(session.environment, limit)]
    rows = [
        {
            "id": run.id,
            "environment": run.environment,
            "runbook": run.runbook,
            "state": run.state.value,
            "interrupted": left,
            "exit_code": run.exit_code,
            "requested_by": run.requested_by,
            "started_at": to_text(run.started_at),
            "reason": run.reason,
        }
        for run, left in found
    ]
    lines = [_line(run, left) for run, left in found]
    session.emit({"runs": rows}, "\n".join(lines) or "no runs yet")
    return 0


def _line(run: Run, left: bool) -> str:
    from mcpops.cli.show import state_word, what_now  # noqa: PLC0415

    state, said = state_word(run, interrupted=left), what_now(run, interrupted=True) if left else run.reason
    return f"{run.id}  {run.environment:<10} {run.runbook:<10} {state:<11} {said}".rstrip()


@runs.command(epilog=READS)
@click.argument("run_id")
@common_options
@click.pass_obj
def show(session: Session, run_id: str) -> int:
    """Show a run: steps, hosts, what failed first, how long, what to do now."""
    from mcpops.cli.record import open_record  # noqa: PLC0415
    from mcpops.cli.show import run_json, run_story  # noqa: PLC0415

    journal = open_record(session).journal
    run = journal.run(run_id)
    verbose = bool(session.verbose)
    session.emit(run_json(journal, run), "" if session.json else run_story(journal, run, verbose=verbose))
    return 0


@runs.command(epilog="Exit status: that of the run; 3 when it was interrupted, or has not ended before --timeout.")
@click.argument("run_id")
@common_options
@click.pass_obj
def watch(session: Session, run_id: str) -> int:
    """Follow a run until it ends, or until nobody drives it any more; with --json one object a line."""
    from mcpops.cli.record import open_record  # noqa: PLC0415
    from mcpops.cli.show import interrupted  # noqa: PLC0415
    from mcpops.model.run import RunState  # noqa: PLC0415

    journal = open_record(session).journal
    seen: dict[int, str] = {}
    deadline_s = time.monotonic() + (session.timeout_s or 86_400)
    while True:
        run = journal.run(run_id)
        if not _tell_changes(session, run, seen):
            return int(ExitCode.UNKNOWN)  # nobody reads it any more
        running = run.state in (RunState.QUEUED, RunState.RUNNING)
        left = not run.queued and interrupted(journal, run)  # a worker takes up what another one left
        if left or not running or time.monotonic() > deadline_s:
            _tell_end(session, journal, run, left)
            return int(ExitCode.UNKNOWN) if running or run.exit_code is None else run.exit_code
        time.sleep(WATCH_PERIOD_S)


def _tell_changes(session: Session, run: Run, seen: dict[int, str]) -> bool:
    """Tell what is new; return whether anybody reads it."""
    from mcpops.cli.show import MARKS, step_json  # noqa: PLC0415

    for record in run.steps:
        now = f"{record.state.value}:{len(record.attempts)}"
        if seen.get(record.seq) == now or not record.attempts:
            continue
        seen[record.seq] = now
        row = step_json(record)
        said = f": {row['reason']}" if row["reason"] else ""
        if not session.emit(
            row, f"{MARKS[record.state]} {record.seq:2} {record.step.name} ({row['duration_s']:.1f} s){said}"
        ):
            return False
    return True


def _tell_end(session: Session, journal: Journal, run: Run, left: bool) -> None:
    from mcpops.cli.show import run_json, state_word, what_now  # noqa: PLC0415

    state, hint = state_word(run, interrupted=left), what_now(run, interrupted=left)
    text = f"{state}{f': {run.reason}' if run.reason else ''}  {hint}".rstrip()
    session.emit(run_json(journal, run) if session.json else None, text)


@runs.command(epilog="Exit status: as `mcpops deploy`.")
@click.argument("run_id")
@common_options
@click.pass_obj
def resume(session: Session, run_id: str) -> int:
    """Go on with a run that was interrupted, or that waited and is approved."""
    from mcpops.cli import launch, wire  # noqa: PLC0415
    from mcpops.cli.record import open_record  # noqa: PLC0415

    found = open_record(session).journal.run(run_id)
    session.environment = found.environment
    return launch.resume(session, wire.open_workplace(session), found)


@runs.command(epilog="Exit status: 0 ok, 2 usage (it ended already), 4 busy (it still runs), 9 refused (say --yes).")
@click.argument("run_id")
@click.option("--reason", default="no reason given", help="Why; it stands in the record.")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="SSH key that signs it, of an approver.")
@common_options
@click.pass_obj
def abandon(session: Session, run_id: str, reason: str, key: Path | None) -> int:
    """Give a run up, and free its environment; it says what it leaves behind."""
    from mcpops.ansible.reap import reap  # noqa: PLC0415
    from mcpops.cli.record import open_record  # noqa: PLC0415
    from mcpops.core.errors import Refused  # noqa: PLC0415
    from mcpops.core.person import whoami  # noqa: PLC0415
    from mcpops.journal.abandon import abandon as give_up  # noqa: PLC0415

    record = open_record(session)
    run = record.journal.run(run_id)
    question = f"give up {run.runbook} in {run.environment}?"
    if not session.yes and not (session.live and click.confirm(question, err=True)):
        raise Refused(f"run {run.id} was not given up", hint="say --yes to give it up")
    by, signature = _signed(record.project, run.id, reason, key) if key else (whoami(), None)
    give_up(record.store, record.clock, run, by=by, reason=reason, signature=signature)
    reap(run.id, fence=sys.maxsize)  # nothing of it acts any more
    session.report({"id": run.id, "state": "abandoned"}, f"abandoned {run.id}; `mcpops status` shows what is in force")
    return 0


def _signed(project: Path, run_id: str, reason: str, key: Path) -> tuple[str, str]:
    """Return who gives a run up, and the signature. Raises UsageError, Refused when the key is no approver's."""
    from mcpops.core import sshsig  # noqa: PLC0415
    from mcpops.core.errors import UsageError  # noqa: PLC0415
    from mcpops.engine import approvers  # noqa: PLC0415
    from mcpops.journal.abandon import message  # noqa: PLC0415

    file = approvers.approvers_file(project)
    if file is None:
        raise UsageError("there is no file `approvers` that names the key", hint="leave --key out")
    said = message(run_id, reason)
    signature = sshsig.sign(key, said)
    return approvers.owners(said, signature, file)[0], signature


@runs.command(epilog=READS)
@click.argument("run_id")
@common_options
@click.pass_obj
def export(session: Session, run_id: str) -> int:
    """Print the whole record of a run as one JSON object."""
    session.json = True
    from mcpops.cli.record import open_record  # noqa: PLC0415
    from mcpops.cli.show import run_json  # noqa: PLC0415

    journal = open_record(session).journal
    session.emit(run_json(journal, journal.run(run_id)), "")
    return 0
