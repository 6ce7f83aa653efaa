"""Opening the journal of a project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcpops.cli.project import STATE, journal_path
from mcpops.core.clock import Clock, SystemClock
from mcpops.core.errors import UsageError
from mcpops.journal.absorb import absorb
from mcpops.journal.queries import Journal
from mcpops.journal.store import Store


@dataclass(frozen=True)
class Record:
    """The journal of a project, opened."""

    store: Store
    journal: Journal
    clock: Clock


def open_journal(project: Path) -> Record:
    """Open the journal of a project, and take in the rollbacks that were done without it.

    Raises UsageError when there is no place for one, or when what is there is none.
    """
    clock = SystemClock()
    try:
        store = Store(journal_path(project))
        absorb(store, clock, (project / STATE).glob("*/rollbacks/*.json"))
    except OSError as error:
        raise UsageError(
            "the journal cannot be opened",
            detail=str(error),
            hint=f"{STATE} is a directory that mcpops makes and must own; `mcpops rollback` works without it",
            where=str(project / STATE),
        ) from error
    return Record(store, Journal(store), clock)
