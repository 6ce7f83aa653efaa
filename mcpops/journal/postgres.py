"""The journal of a team: PostgreSQL by psycopg. Heavy imports wait until such a journal is opened.

The password is libpq's business (`~/.pgpass`, a service file, a certificate): a URL with one is refused, because it
would stand in mcpops.yml and in messages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from mcpops.core.errors import McpopsError, UsageError
from mcpops.journal.trouble import Damaged, Unavailable

PREFIXES = ("postgresql://", "postgres://")
# One writer at a time, as SQLite has it: the chain has no gaps. The number names the lock within the database.
WRITE_LOCK = 0x6D63706F7073  # "mcpops"
# A process that was frozen in the middle of a write would keep everybody waiting: the server ends its transaction.
FROZEN_MS = 10_000
CONNECT_S = 10
# A server that does not answer is told from a slow one within seconds: the heartbeat must know (libpq, keepalives).
_SILENT = {"tcp_user_timeout": 5000, "keepalives_idle": 3, "keepalives_interval": 2, "keepalives_count": 2}

_UNAVAILABLE = "it is whole: try again; `mcpops rollback` works without it"
# The beginning of an SQLSTATE (PostgreSQL manual, appendix A) and what it says of the journal.
_BY_STATE: tuple[tuple[str, type[McpopsError], str, str], ...] = (
    ("55P03", Unavailable, "is in use by another process", _UNAVAILABLE),
    ("57014", Unavailable, "took too long to answer", _UNAVAILABLE),
    ("25P03", Unavailable, "gave up a transaction of this process, which stood still", _UNAVAILABLE),
    ("25006", Unavailable, "cannot be written: the server is read-only", _UNAVAILABLE),
    ("42501", Unavailable, "may not be read or written by this account", "grant it the tables of the journal"),
    ("53100", Unavailable, "cannot be written: the server's disk is full", "free space there, then try again"),
    ("XX001", Damaged, "is damaged", "restore it from the last backup; `mcpops rollback` works without it"),
    ("XX002", Damaged, "is damaged", "REINDEX may help; `mcpops rollback` works without it"),
    ("28", Unavailable, "does not let this account in", "see ~/.pgpass, pg_hba.conf and the user in `journal:`"),
    ("3D000", Unavailable, "is not there", "create the database: `createdb NAME`"),
    ("08", Unavailable, "cannot be reached", _UNAVAILABLE),
    ("53", Unavailable, "has no room for another connection", _UNAVAILABLE),
    ("57", Unavailable, "is shutting down or starting", _UNAVAILABLE),
    ("40", Unavailable, "gave up this transaction for another one", _UNAVAILABLE),
)
_BY_WORDS = (("does not exist", "3D000"), ("authentication failed", "28"), ("no pg_hba.conf entry", "28"))


class Postgres:
    """A journal in the database that `url` names. Raises UsageError for a URL that is none, or has a password."""

    path: Path | None = None

    def __init__(self, url: str) -> None:
        try:
            # Without this, SQLAlchemy would look for the driver psycopg2.
            self._url = make_url(url).set(drivername="postgresql+psycopg")
        except (ArgumentError, ValueError) as error:
            raise UsageError("the journal's URL cannot be read", hint="postgresql://USER@HOST/DATABASE") from error
        if self._url.password is not None or "password" in self._url.query:
            raise UsageError(
                "the journal's URL holds a password",
                detail="it would stand in mcpops.yml for everybody who reads the project",
                hint="write it to ~/.pgpass (0600), and leave it out of `journal:`",
            )
        self.name = self._url.set(drivername="postgresql").render_as_string()

    @property
    def conninfo(self) -> str:
        """The URL as libpq takes it."""
        return self.name

    def engine(self, wait_ms: int) -> Engine:
        """Return an engine whose writers wait at most `wait_ms` for another one."""
        try:
            engine = create_engine(
                self._url,
                isolation_level="AUTOCOMMIT",  # we say BEGIN ourselves
                pool_size=2,  # the driver of a run, and its heartbeat
                pool_pre_ping=True,
                hide_parameters=True,
                connect_args={"connect_timeout": CONNECT_S, "application_name": "mcpops", **_SILENT},
            )
        except ModuleNotFoundError as error:
            raise UsageError(
                "a journal on PostgreSQL needs psycopg", detail=str(error), hint="pip install 'mcpops[postgres]'"
            ) from error

        @event.listens_for(engine, "connect")
        def _on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = {wait_ms}")
                cursor.execute(f"SET statement_timeout = {2 * wait_ms + CONNECT_S * 1000}")
                cursor.execute(f"SET idle_in_transaction_session_timeout = {FROZEN_MS}")
                cursor.execute("SET synchronous_commit = on")  # an intent must survive the loss of power

        return engine

    def begin_write(self, connection: Connection) -> None:
        """Begin a transaction that holds the write lock from its first statement."""
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

    def begin_read(self, connection: Connection) -> None:
        """Begin a transaction that sees one state."""
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # A reader keeps nobody waiting: whoever verifies a long record may think between two questions.
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")

    def explain(self, error: BaseException | None) -> McpopsError | None:
        """Return the error of ours for one of PostgreSQL's, or None when it tells of a bug."""
        state = getattr(error, "sqlstate", None)
        if state is None:
            # A connection that cannot be made: psycopg tells why in the server's words only.
            lost = type(error).__name__ == "OperationalError"
            state = next((code for words, code in _BY_WORDS if words in str(error)), "08") if lost else ""
        for beginning, kind, what, hint in _BY_STATE:
            if state.startswith(beginning):
                return kind(f"the journal {self.name} {what}", detail=str(error).strip(), hint=hint)
        return None
