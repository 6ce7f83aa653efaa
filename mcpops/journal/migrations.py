"""From each schema of the journal to the next, by alembic's operations: the same on SQLite and PostgreSQL.

A step is never changed once it was released: what it makes of an old journal is what the next step expects. `tables.py`
says what comes out; a test compares the two, from the first schema on.
"""

from __future__ import annotations

from collections.abc import Callable

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import JSON, Boolean, Column, Connection, ForeignKey, Integer, LargeBinary, Text, false


def upgrade(connection: Connection, version: int) -> None:
    """Bring a journal of schema `version` up to date, in the caller's transaction."""
    operations = Operations(MigrationContext.configure(connection))
    for number in sorted(_STEPS):
        if number > version:
            _STEPS[number](operations)


def _to_2(op: Operations) -> None:
    """Queued runs, schedules, notices, and seals of the chain's head."""
    op.add_column("environment", Column("dirty", Boolean, nullable=False, server_default=false()))
    op.add_column("run", Column("queued", Boolean, nullable=False, server_default=false()))
    op.add_column("run", Column("schedule", Text))
    op.create_table(
        "snapshot",
        Column("run_id", Text, ForeignKey("run.id"), primary_key=True),
        Column("tar", LargeBinary, nullable=False),
    )
    op.create_table(
        "firing",
        Column("environment", Text, primary_key=True),
        Column("schedule", Text, primary_key=True),
        Column("due_at", Text, primary_key=True),
        Column("verdict", Text, nullable=False),
        Column("run_id", Text, nullable=False),
        Column("at", Text, nullable=False),
        Column("why", Text, nullable=False),
    )
    op.create_table(
        "notice",
        Column("id", Text, primary_key=True),
        Column("run_id", Text, nullable=False),
        Column("channel", Text, nullable=False),
        Column("body", JSON, nullable=False),
        Column("at", Text, nullable=False),
        Column("tries", Integer, nullable=False),
        Column("next_at", Text, nullable=False),
        Column("delivered_at", Text),
        Column("error", Text, nullable=False),
    )
    op.create_index("notice_by_delivery", "notice", ["delivered_at", "next_at"])
    _seals(op)


def _seals(op: Operations) -> None:
    op.create_table(
        "seal",
        Column("number", Integer, primary_key=True),
        Column("n", Integer, ForeignKey("record.n"), nullable=False),
        Column("sha256", Text, nullable=False),
        Column("at", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("signature", Text, nullable=False),
    )


def _to_3(op: Operations) -> None:
    """Which way the commands of an attempt took to the hosts."""
    op.add_column("attempt", Column("ways", JSON, nullable=False, server_default="{}"))


_STEPS: dict[int, Callable[[Operations], None]] = {2: _to_2, 3: _to_3}
