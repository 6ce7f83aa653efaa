"""The tables of the journal. Times are RFC 3339 text in UTC, values JSON; the schema carries a version.

`environment` holds the lease; `run`, `step`, `attempt`, `result` the work; `approval` decisions on a plan digest;
`snapshot` what a queued run uses; `firing` the times at which schedules were due; `notice` what is to be told outside.
`record` is the hash chain over all of them, append-only, and `seal` the signatures of its head.

Whoever changes a table here writes the same into `migrations.py`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
)

SCHEMA_VERSION = 3

metadata = MetaData()

schema = Table("schema", metadata, Column("version", Integer, primary_key=True))

environment = Table(
    "environment",
    metadata,
    Column("name", Text, primary_key=True),
    Column("fence", BigInteger, nullable=False),  # the highest ever given out here
    Column("run_id", Text),  # null: nobody holds the lease
    Column("holder", Text),
    Column("doing", Text),
    Column("since", Text),
    Column("until", Text),
    Column("broken_run_id", Text),  # a failed undo locks the environment until a person resolves it
    # The last holder did not give the lease back: hosts that have not heard of a later fence may still obey it.
    Column("dirty", Boolean, nullable=False, server_default=false()),
)

run = Table(
    "run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("environment", Text, nullable=False),
    Column("runbook", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("plan_digest", Text, nullable=False),
    Column("snapshot", Text, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("ended_at", Text),
    Column("exit_code", Integer),
    Column("reason", Text, nullable=False, default=""),
    Column("queued", Boolean, nullable=False, server_default=false()),  # workers may drive it
    Column("schedule", Text),  # which schedule asked for it
    Index("run_by_environment", "environment", "started_at"),
)

step = Table(
    "step",
    metadata,
    Column("run_id", Text, ForeignKey("run.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("outputs", JSON, nullable=False),
    Column("undo_of", Integer),
)

attempt = Table(
    "attempt",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("fence", BigInteger, nullable=False),
    Column("intent_at", Text, nullable=False),
    Column("intent_at_ns", BigInteger, nullable=False),  # Unix time: what a switch on a host is measured from
    Column("outcome", Text),
    Column("reason", Text, nullable=False, default=""),
    Column("duration_ms", Integer, nullable=False, default=0),
    Column("ways", JSON, nullable=False, server_default="{}"),  # commands by the way that they took to the hosts
    ForeignKeyConstraint(["run_id", "seq"], ["step.run_id", "step.seq"]),
)

result = Table(
    "result",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("host", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("ignored", Boolean, nullable=False),
    ForeignKeyConstraint(["run_id", "seq", "attempt"], ["attempt.run_id", "attempt.seq", "attempt.number"]),
)

approval = Table(
    "approval",
    metadata,
    Column("run_id", Text, ForeignKey("run.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("decision", Text, nullable=False),  # approve or reject
    Column("by", Text, nullable=False),
    Column("plan_digest", Text, nullable=False),
    Column("signature", Text),
    Column("at", Text, nullable=False),
    Column("expires_at", Text),
)

snapshot = Table(
    "snapshot",
    metadata,
    Column("run_id", Text, ForeignKey("run.id"), primary_key=True),
    Column("tar", LargeBinary, nullable=False),
)

firing = Table(
    "firing",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("schedule", Text, primary_key=True),
    Column("due_at", Text, primary_key=True),
    Column("verdict", Text, nullable=False),  # fired, skipped
    Column("run_id", Text, nullable=False),  # the run of that time, whether or not it was begun
    Column("at", Text, nullable=False),
    Column("why", Text, nullable=False),
)

notice = Table(
    "notice",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Column("at", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", Text, nullable=False),
    Column("delivered_at", Text),
    Column("error", Text, nullable=False),
    Index("notice_by_delivery", "delivered_at", "next_at"),
)

record = Table(
    "record",
    metadata,
    Column("n", Integer, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Column("previous", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Index("record_by_run", "run_id", "n"),
)

seal = Table(
    "seal",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("n", Integer, ForeignKey("record.n"), nullable=False),
    Column("sha256", Text, nullable=False),  # the digest of row `n`
    Column("at", Text, nullable=False),
    Column("key", Text, nullable=False),  # the public key that signed, base64
    Column("signature", Text, nullable=False),
)
