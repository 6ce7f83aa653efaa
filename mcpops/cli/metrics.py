"""Metrics in the text format of Prometheus: presence of success, not absence of failure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mcpops.core.clock import from_text

if TYPE_CHECKING:
    from mcpops.cli.record import Record


def metrics(record: Record) -> str:
    """Return what an alert is made of; see docs/how-to/schedule.md for the rules."""
    return "".join(f"{line}\n" for line in _lines(record))


def _lines(record: Record) -> Iterator[str]:
    from mcpops.cli.schedule import standings  # noqa: PLC0415 - it imports this module
    from mcpops.journal.outbox import undelivered  # noqa: PLC0415

    rows = standings(record, list(record.settings.schedules))
    yield "# HELP mcpops_schedule_last_success_timestamp_seconds When a schedule succeeded last; 0: never."
    yield "# TYPE mcpops_schedule_last_success_timestamp_seconds gauge"
    for row in rows:
        at = from_text(row["last_success_at"]).timestamp() if row["last_success_at"] else 0
        yield f"mcpops_schedule_last_success_timestamp_seconds{_labels(row)} {at:.0f}"
    yield "# HELP mcpops_schedule_overdue Whether a schedule had no success in time."
    yield "# TYPE mcpops_schedule_overdue gauge"
    for row in rows:
        yield f"mcpops_schedule_overdue{_labels(row)} {int(row['overdue'])}"
    late = undelivered(record.store)
    yield "# HELP mcpops_notices_undelivered Notices that did not arrive at their first try, and have not since."
    yield "# TYPE mcpops_notices_undelivered gauge"
    yield f"mcpops_notices_undelivered {late.count if late else 0}"
    yield "# HELP mcpops_metrics_written_timestamp_seconds When these were written; old: nobody ticks any more."
    yield "# TYPE mcpops_metrics_written_timestamp_seconds gauge"
    yield f"mcpops_metrics_written_timestamp_seconds {record.clock.now().timestamp():.0f}"


def _labels(row: dict[str, object]) -> str:
    return f'{{environment="{row["environment"]}",schedule="{row["name"]}"}}'
