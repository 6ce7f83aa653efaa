"""What can be wrong with the journal's file: the one place where SQLite's errors become ours.

Only a file that is no database may be moved away: with a journal go its lease and its record.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from mcpops.core.errors import Failed, McpopsError, Unknown, UsageError


class Unavailable(Unknown):
    """The journal cannot be read or written now. What it holds stays true; a run under way can be resumed."""


class Damaged(Failed):
    """The journal's file is not what was written."""


# What the engine never takes for the outcome of a step: the step may have done its work.
TROUBLE = (Unavailable, Damaged)

_LOCKED = (
    Unavailable,
    "is in use by another process",
    "it is whole: try again; `fuser {path}` names who holds it, and `mcpops rollback` works without it",
)
_READ_ONLY = (
    Unavailable,
    "cannot be opened or cannot be written",
    "give {path} and its directory to the account that runs mcpops; `mcpops rollback` works without it",
)
_BY_CODE: dict[int, tuple[type[McpopsError], str, str]] = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_FULL: (
        Unavailable,
        "cannot be written: the disk is full",
        "it is whole: free space below {home}, then `mcpops runs list` shows what can be resumed",
    ),
    sqlite3.SQLITE_IOERR: (
        Unavailable,
        "cannot be read or written: the disk gives an error",
        "see the kernel's log (`dmesg`), and whether {home} is full; `mcpops rollback` works without the journal",
    ),
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_AUTH: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: (
        Damaged,
        "is damaged",
        "copy {path}* to another place first; `sqlite3 {path} .recover` prints what can be read; "
        "`mcpops rollback` works without it",
    ),
    sqlite3.SQLITE_NOTADB: (
        UsageError,
        "cannot be used as the journal: it is no database",
        "move the file away; `mcpops rollback` works without it",
    ),
}


def explain(path: Path, error: BaseException | None) -> McpopsError | None:
    """Return the error of ours for one of SQLite's, or None when it tells of a bug and not of the file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    if code not in _BY_CODE:
        return None
    kind, what, hint = _BY_CODE[code]
    return kind(f"{path} {what}", detail=str(error), hint=hint.format(path=path, home=path.parent))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite raises for the file at `path` into errors of ours."""
    try:
        yield
    except (DatabaseError, sqlite3.Error) as error:
        ours = explain(path, error.orig if isinstance(error, DatabaseError) else error)
        if ours is None:
            raise
        raise ours from error
