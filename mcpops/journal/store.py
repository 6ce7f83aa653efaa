"""Opening the journal, and its transactions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from mcpops.core.errors import UsageError
from mcpops.journal import tables
from mcpops.journal.trouble import Unavailable, explained

BUSY_TIMEOUT_MS = 30_000  # how long a writer waits for another one before it gives up
HURRIED_MS = 3_000  # the same for the renewal of a lease, which must know soon whether it has one


class Store:
    """A journal that is open. Raises UsageError when the file is no journal or of another version.

    Also each transaction raises Unavailable (locked, disk full, read-only, disk error) and Damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _make(path)
        self.engine = _engine(path, BUSY_TIMEOUT_MS)
        self._hurried = _engine(path, HURRIED_MS)
        self._ensure_schema()

    @contextmanager
    def write(self, *, hurried: bool = False) -> Iterator[Connection]:
        """Give a transaction that holds the write lock from its first statement (BEGIN IMMEDIATE)."""
        with explained(self.path), (self._hurried if hurried else self.engine).connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                _roll_back(connection)
                raise
            connection.exec_driver_sql("COMMIT")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a transaction that sees one state of the journal; it waits for no writer."""
        with explained(self.path), self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                _roll_back(connection)

    def _ensure_schema(self) -> None:
        version = self._version()
        if version is None:
            self._create()
            version = self._version()
        if version != tables.SCHEMA_VERSION:
            raise UsageError(
                f"the journal {self.path} has schema {version}, this mcpops knows {tables.SCHEMA_VERSION}",
                hint="use the mcpops that wrote it, or move the file away",
            )

    def _version(self) -> int | None:
        with self.read() as connection:
            if not connection.dialect.has_table(connection, "schema"):
                return None
            return connection.execute(select(tables.schema.c.version)).scalar_one_or_none()

    def _create(self) -> None:
        with self.write() as connection:
            tables.metadata.create_all(connection)
            if connection.execute(select(tables.schema.c.version)).first() is None:
                connection.execute(insert(tables.schema).values(version=tables.SCHEMA_VERSION))


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


def _roll_back(connection: Connection) -> None:
    """End a transaction that changes nothing; SQLite may have ended it itself (disk full)."""
    with suppress(DatabaseError):
        connection.exec_driver_sql("ROLLBACK")


def _engine(path: Path, busy_timeout_ms: int) -> Engine:
    # A connection a transaction: forks and threads (the heartbeat) never share one.
    # What a statement was given (the parameters of a run, perhaps) is in no message of an error.
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # an intent must survive the loss of power
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    return engine
