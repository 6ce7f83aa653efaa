"""`mcpops journal`: the record's hash chain."""

from __future__ import annotations

import click

from mcpops.cli.common import Session, common_options


@click.group()
def journal() -> None:
    """Verify the record."""


@journal.command(epilog="Exit status: 0 passed, 1 failed, 2 usage, 3 unknown (the record is empty).")
@common_options
@click.pass_obj
def verify(session: Session) -> int:
    """Verify that no row of the record was changed, removed, reordered or inserted."""
    from mcpops.cli import wire  # noqa: PLC0415
    from mcpops.core.errors import ExitCode  # noqa: PLC0415

    record = wire.open_record(session)
    rows, wrong = record.journal.verify()
    verdict = "failed" if wrong else "passed" if rows else "unknown"
    said = {"verdict": verdict, "rows": rows, "problem": wrong}
    session.emit(said, f"{verdict}: {rows} rows" + (f"; {wrong}" if wrong else ""))
    return int({"passed": ExitCode.OK, "failed": ExitCode.FAILED, "unknown": ExitCode.UNKNOWN}[verdict])
