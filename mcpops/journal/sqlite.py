"""The journal in a file: SQLite in WAL mode, one writer at a time, every commit on disk.

Only a file that is no database may be moved away: with a journal go its lease and its record.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from mcpops.core.errors import McpopsError, UsageError
from mcpops.journal.trouble import Damaged, Unavailable

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


class Sqlite:
    """A journal in the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self._path = path
        self.name = str(path)
        _make(path)

    def engine(self, wait_ms: int) -> Engine:
        """Return an engine whose writers wait at most `wait_ms` for another one."""
        # A connection a transaction: forks and threads (the heartbeat) never share one.
        # What a statement was given (the parameters of a run, perhaps) is in no message of an error.
        engine = create_engine(f"sqlite:///{self._path}", poolclass=NullPool, hide_parameters=True)

        @event.listens_for(engine, "connect")
        def _on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
            connection.isolation_level = None  # we say BEGIN ourselves
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {wait_ms}")
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")  # an intent must survive the loss of power
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.close()

        return engine

    def begin_write(self, connection: Connection) -> None:
        """Begin a transaction that holds the write lock from its first statement."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def begin_read(self, connection: Connection) -> None:
        """Begin a transaction that sees one state."""
        connection.exec_driver_sql("BEGIN")

    def explain(self, error: BaseException | None) -> McpopsError | None:
        """Return the error of ours for one of SQLite's, or None when it tells of a bug and not of the file."""
        return explain(self._path, error)


def _make(path: Path) -> None:
    """Make the file, private, where there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise Unavailable(
            f"the journal {path} cannot be made",
            detail=str(error),
            hint=f"{path.parent} must be a directory of the account that runs mcpops, with space left",
        ) from error
