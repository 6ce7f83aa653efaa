"""Opening the journal, and its transactions: the same on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import DatabaseError, DBAPIError, SQLAlchemyError

from mcpops.core.errors import McpopsError, UsageError
from mcpops.journal import tables
from mcpops.journal.postgres import PREFIXES, Postgres
from mcpops.journal.seal import Sealer
from mcpops.journal.sqlite import Sqlite

BUSY_TIMEOUT_MS = 30_000  # how long a writer waits for another one before it gives up
HURRIED_MS = 3_000  # the same for the renewal of a lease, which must know soon whether it has one


# Which channels want to hear of an event in an environment; the schedule that asked for the run, if one did.
Wanted = Callable[[str, str, str | None], Sequence[str]]


class Backend(Protocol):
    """A kind of database: how to connect, how to begin, and what its errors mean."""

    name: str  # for messages; no secret in it
    path: Path | None

    def engine(self, wait_ms: int) -> Engine:
        """Return an engine whose writers wait at most `wait_ms` for another one."""

    def begin_write(self, connection: Connection) -> None:
        """Begin a transaction that holds the journal's one write lock from its first statement."""

    def begin_read(self, connection: Connection) -> None:
        """Begin a transaction that sees one state, and waits for no writer."""

    def explain(self, error: BaseException | None) -> McpopsError | None:
        """Return the error of ours for one of the database's, or None when it tells of a bug."""


class Store:
    """A journal that is open, in the file or the database `where`; one of an older mcpops is brought up to date.

    `sealer` signs the head of the chain where a run ends or somebody decides; without one nothing is sealed. `wanted`
    says which channels hear of an event in an environment: nobody, until somebody sets it.
    Raises UsageError when it is no journal or one of a newer mcpops. Also each transaction raises Unavailable (locked,
    full, read-only, out of reach) and Damaged.
    """

    def __init__(self, where: Path | str, sealer: Sealer | None = None) -> None:
        self.sealer = sealer
        self.wanted: Wanted = lambda _environment, _event, _schedule: ()
        database = isinstance(where, str) and where.startswith(PREFIXES)
        self.backend: Backend = Postgres(str(where)) if database else Sqlite(Path(where))
        self.engine = self.backend.engine(BUSY_TIMEOUT_MS)
        self._hurried = self.backend.engine(HURRIED_MS)
        try:
            self._ensure_schema()
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The file of a journal on SQLite. Raises ValueError for another one."""
        if self.backend.path is None:
            msg = f"the journal {self.backend.name} is no file"
            raise ValueError(msg)
        return self.backend.path

    def close(self) -> None:
        """Close the connections that wait for their next use."""
        self.engine.dispose()
        self._hurried.dispose()

    @contextmanager
    def write(self, *, hurried: bool = False) -> Iterator[Connection]:
        """Give a transaction that holds the write lock from its first statement."""
        with self._explained(), (self._hurried if hurried else self.engine).connect() as connection:
            self.backend.begin_write(connection)
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                _roll_back(connection)
                if self.sealer:
                    self.sealer.expect(None)
                raise
        if self.sealer:
            self.sealer.remember()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a transaction that sees one state of the journal; it waits for no writer."""
        with self._explained(), self.engine.connect() as connection:
            self.backend.begin_read(connection)
            try:
                yield connection
            finally:
                _roll_back(connection)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the database raises into errors of ours."""
        try:
            yield
        except (DatabaseError, sqlite3.Error) as error:
            ours = self.backend.explain(error.orig if isinstance(error, DBAPIError) else error)
            if ours is None:
                raise
            raise ours from error

    def _ensure_schema(self) -> None:
        version = self._version()
        if version is None:
            self._create()
        elif version < tables.SCHEMA_VERSION:
            self._migrate()
        version = self._version()
        if version != tables.SCHEMA_VERSION:
            raise UsageError(
                f"the journal {self.backend.name} has schema {version}, this mcpops knows {tables.SCHEMA_VERSION}",
                hint="use the mcpops that wrote it, or a newer one",
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

    def _migrate(self) -> None:
        """Bring an older journal up to date, whole or not at all; another process may have done so meanwhile."""
        from mcpops.journal.migrations import upgrade  # noqa: PLC0415 - alembic costs 0.4 s, once a version

        with self.write() as connection:
            version = connection.execute(select(tables.schema.c.version)).scalar_one()
            if version < tables.SCHEMA_VERSION:
                upgrade(connection, version)
                connection.execute(update(tables.schema).values(version=tables.SCHEMA_VERSION))


def _roll_back(connection: Connection) -> None:
    """End a transaction that changes nothing; the database may have ended it itself (disk full)."""
    with suppress(SQLAlchemyError):
        connection.exec_driver_sql("ROLLBACK")
