"""`mcpops journal`: the record's hash chain, its seals and anchors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcpops.cli.common import LONGEST_S, Session, common_options, seconds

if TYPE_CHECKING:
    from mcpops.cli.record import Record
    from mcpops.core.errors import ExitCode


@click.group()
def journal() -> None:
    """Verify, export, anchor and prune the record."""


@journal.command(
    epilog="Exit status: 0 passed, 1 failed, 2 usage, 3 unknown (the record is empty, or its anchors do not answer)."
)
@click.option(
    "--export",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Verify what `journal export` printed, and not the journal.",
)
@common_options
@click.pass_obj
def verify(session: Session, file: Path | None) -> int:
    """Verify that no row was changed, removed, reordered or inserted, that seals are genuine, that anchors fit."""
    from mcpops.cli.record import open_record  # noqa: PLC0415
    from mcpops.core.errors import ExitCode, UsageError  # noqa: PLC0415
    from mcpops.journal import export as exported  # noqa: PLC0415

    record = open_record(session)
    if file is None:
        verdict, said = _verified(record)
    else:
        try:
            with file.open(encoding="utf-8") as lines:
                rows, wrong = exported.wrong(lines, record.trusted)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError("the file is no export", detail=str(error), where=str(file)) from error
        verdict, said = _verdict(rows, wrong), {"rows": rows, "problem": wrong}
    said = {"verdict": {ExitCode.OK: "passed"}.get(verdict, verdict.word), **said}
    problem = f"; {said['problem']}" if said["problem"] else ""
    anchored = f", {said['anchors']} anchors" if said.get("anchors") is not None else ""
    session.emit(said, f"{said['verdict']}: {said['rows']} rows{anchored}{problem}")
    return int(verdict)


def _verdict(rows: int, wrong: str | None) -> ExitCode:
    from mcpops.core.errors import ExitCode  # noqa: PLC0415

    return ExitCode.FAILED if wrong else ExitCode.OK if rows else ExitCode.UNKNOWN


def _verified(record: Record) -> tuple[ExitCode, dict[str, Any]]:
    """Verify the journal with what this machine and the anchors know of it."""
    from mcpops.core.errors import ExitCode, McpopsError  # noqa: PLC0415

    seen: list[Any] = [record.store.sealer.seen()] if record.store.sealer else []
    anchors, unheard = None, ""
    place = record.anchors()
    if place:
        from mcpops.journal import anchor  # noqa: PLC0415

        try:
            found = anchor.all_of(place)
            seen, anchors = [*seen, *found], len(found)
            unheard = "" if found else "there are no anchors yet"
        except ValueError as error:
            rows, _ = record.journal.verify(record.trusted, seen)
            return ExitCode.FAILED, {"rows": rows, "problem": str(error), "anchors": None}
        except McpopsError as error:
            unheard = f"the anchors do not answer: {error.message}"
    rows, wrong = record.journal.verify(record.trusted, seen)
    verdict = ExitCode.UNKNOWN if unheard and not wrong else _verdict(rows, wrong)
    return verdict, {"rows": rows, "problem": wrong or unheard or None, "anchors": anchors}


@journal.command(epilog="Exit status: 0 ok, 2 usage.")
@click.option("--since", default=0, type=click.IntRange(0), metavar="N", help="Only rows after this number.")
@common_options
@click.pass_obj
def export(session: Session, since: int) -> int:
    """Print the rows and seals of the record, one line of JSON each; `journal verify --export` needs nothing else."""
    from mcpops.cli.record import open_record  # noqa: PLC0415
    from mcpops.journal.export import lines  # noqa: PLC0415

    session.json = False  # it is JSON line by line in any case
    for line in lines(open_record(session).store, since):
        if not session.emit(None, line):
            break
    return 0


@journal.command(epilog="Exit status: 0 ok, 1 another record is anchored there, 2 usage, 3 the place does not answer.")
@common_options
@click.pass_obj
def anchor(session: Session) -> int:
    """Put the last seal where the settings say (`anchor:`); each run that ends does so by itself."""
    from mcpops.cli.record import open_record  # noqa: PLC0415
    from mcpops.core.errors import Failed, UsageError  # noqa: PLC0415
    from mcpops.journal import anchor as anchors  # noqa: PLC0415
    from mcpops.objects.store import Exists  # noqa: PLC0415

    record = open_record(session)
    place = record.anchors()
    if place is None:
        raise UsageError(
            "the settings name no place for anchors", hint="anchor: {directory: …} or {s3: …} in mcpops.yml"
        )
    try:
        number = anchors.put(record.store, place)
    except Exists as error:
        raise Failed(f"another record is anchored there: {error}", hint="`mcpops journal verify` says more") from error
    session.report({"seal": number}, "nothing is sealed yet" if number is None else f"seal {number} is anchored")
    return 0


@journal.command(epilog="Exit status: 0 ok, 2 usage, 9 refused (say --yes).")
@click.option("--older-than", required=True, metavar="TIME", help="Runs that ended so long ago, as 400d or 12h.")
@common_options
@click.pass_obj
def prune(session: Session, older_than: str) -> int:
    """Let old runs go, with their files: the chain keeps what it says of them, and who let them go."""
    import shutil  # noqa: PLC0415
    from datetime import timedelta  # noqa: PLC0415

    from mcpops.cli.project import STATE  # noqa: PLC0415
    from mcpops.cli.record import open_record  # noqa: PLC0415
    from mcpops.core.errors import Refused  # noqa: PLC0415
    from mcpops.core.person import whoami  # noqa: PLC0415
    from mcpops.journal import prune as pruning  # noqa: PLC0415

    record = open_record(session)
    before = record.clock.now() - timedelta(seconds=seconds(older_than, 100 * LONGEST_S))
    runs = pruning.prunable(record.store, before)
    asked = not runs or session.yes or (session.live and click.confirm(f"let {len(runs)} runs go?", err=True))
    if not asked:
        raise Refused(f"{len(runs)} runs were not let go", hint="say --yes to let them go")
    pruning.prune(record.store, record.clock, runs, by=whoami())
    for run_id in runs:
        for home in (record.project / STATE).glob(f"*/runs/{run_id}*"):
            shutil.rmtree(home, ignore_errors=True)
    session.report({"pruned": runs}, f"{len(runs)} runs are gone")
    return 0
