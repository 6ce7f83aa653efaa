"""Opening the journal, and its transactions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from mcpops.core.errors import UsageError
from mcpops.journal import tables

BUSY_TIMEOUT_MS = 30_000  # how long a writer waits for another one before it gives up


class Store:
    """A journal that is open. Raises UsageError when the file is no journal or of another version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        # A connection a transaction: forks and threads (the heartbeat) never share one.
        self.engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
        _set_pragmas(self.engine)
        try:
            self._ensure_schema()
        except DatabaseError as error:
            raise UsageError(
                f"{path} cannot be used as the journal",
                detail=str(error.orig),
                hint="move the file away; `mcpops rollback` works without it",
            ) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a transaction that holds the write lock from its first statement (BEGIN IMMEDIATE)."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a transaction that sees one state of the journal."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")

    def _ensure_schema(self) -> None:
        with self.read() as connection:
            known = connection.dialect.has_table(connection, "schema")
        with self.write() as connection:
            if not known:
                tables.metadata.create_all(connection)
                if connection.execute(select(tables.schema.c.version)).first() is None:
                    connection.execute(insert(tables.schema).values(version=tables.SCHEMA_VERSION))
            version = connection.execute(select(tables.schema.c.version)).scalar_one()
        if version != tables.SCHEMA_VERSION:
            raise UsageError(
                f"the journal {self.path} has schema {version}, this mcpops knows {tables.SCHEMA_VERSION}",
                hint="use the mcpops that wrote it, or move the file away",
            )


def _set_pragmas(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # an intent must survive the loss of power
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()
