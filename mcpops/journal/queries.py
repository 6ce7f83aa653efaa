"""Reading the journal: nothing here changes anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from mcpops.core.clock import from_text
from mcpops.core.errors import UsageError
from mcpops.journal import chain, integrity, lease, tables
from mcpops.journal.store import Store
from mcpops.journal.trouble import Damaged
from mcpops.model.outcome import Outcome, Result
from mcpops.model.run import Attempt, Decision, Lease, Run, RunState, StepRecord, StepState
from mcpops.model.step import OnInterrupt, Step, StepKind


class Journal:
    """The questions that the CLI, the engine and the dashboard ask."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def run(self, run_id: str) -> Run:
        """Return a run with its steps; `run_id` may be a unique beginning. Raises UsageError."""
        with self.store.read() as connection:
            found = connection.execute(select(tables.run).where(tables.run.c.id.startswith(run_id, autoescape=True)))
            rows = found.all()
            if len(rows) != 1:
                which = "no run" if not rows else f"{len(rows)} runs"
                raise UsageError(f"{which} {run_id!r} in the journal", hint="`mcpops runs list` shows them")
            return _run(rows[0], _steps(connection, rows[0].id))

    def runs(self, environment: str | None = None, limit: int = 50) -> list[Run]:
        """Return runs without their steps, the newest first."""
        query = select(tables.run).order_by(tables.run.c.started_at.desc()).limit(limit)
        if environment:
            query = query.where(tables.run.c.environment == environment)
        with self.store.read() as connection:
            return [_run(row) for row in connection.execute(query)]

    def lease(self, environment: str) -> Lease | None:
        """Return who holds the lease of an environment."""
        with self.store.read() as connection:
            return lease.current(connection, environment)

    def locked_by(self, environment: str) -> str | None:
        """Return the run whose failed undo locks an environment."""
        with self.store.read() as connection:
            return lease.locked_by(connection, environment)

    def decision(self, run_id: str, seq: int) -> Decision | None:
        """Return the decision on a gate: the last one, but a rejection is final."""
        row_of = tables.approval.c
        query = select(tables.approval).where((row_of.run_id == run_id) & (row_of.seq == seq))
        with self.store.read() as connection:
            rows = connection.execute(query.order_by(row_of.n.desc())).all()
        if not rows:
            return None
        row = next((one for one in rows if one.decision == "reject"), rows[0])
        return Decision(
            run_id=run_id,
            seq=seq,
            decision=row.decision,
            plan_digest=row.plan_digest,
            at=from_text(row.at),
            expires_at=from_text(row.expires_at) if row.expires_at else None,
            by=row.by,
            signature=row.signature,
        )

    def packed(self, run_id: str) -> bytes | None:
        """Return the files of a queued run, as `packed.pack` made them."""
        with self.store.read() as connection:
            query = select(tables.snapshot.c.tar).where(tables.snapshot.c.run_id == run_id)
            return connection.execute(query).scalar_one_or_none()

    def counts(self, environment: str) -> dict[str, int]:
        """Return how many runs of an environment are in each state; states without any are left out."""
        query = select(tables.run.c.state, func.count()).where(tables.run.c.environment == environment)
        with self.store.read() as connection:
            return {row.state: row[1] for row in connection.execute(query.group_by(tables.run.c.state))}

    def integrity(self, run_id: str) -> tuple[str | None, str | None]:
        """Return the head of a run's record, and what is wrong with the record or None."""
        head = None
        try:
            with self.store.read() as connection:
                head = chain.head(connection, run_id)
                return head, integrity.wrong(connection, run_id)
        except Damaged as error:
            return head, f"{error.message}: {error.detail}"

    def verify(
        self, trusted: Collection[str] | None = None, seen: Iterable[Mapping[str, Any] | None] = ()
    ) -> tuple[int, str | None]:
        """Verify the whole record: how many rows, and what is wrong with the first bad one or None.

        `trusted` are the keys that may have sealed it (None leaves the seals alone), `seen` seals known from elsewhere.
        """
        rows = 0
        try:
            with self.store.read() as connection:
                rows = connection.execute(select(func.count()).select_from(tables.record)).scalar_one()
                return rows, integrity.wrong(connection, trusted=trusted, seen=seen)
        except Damaged as error:
            return rows, f"{error.message}: {error.detail}"


def _run(row: Row[Any], steps: tuple[StepRecord, ...] = ()) -> Run:
    return Run(
        id=row.id,
        environment=row.environment,
        runbook=row.runbook,
        state=RunState(row.state),
        plan_digest=row.plan_digest,
        snapshot=row.snapshot,
        parameters=row.parameters,
        requested_by=row.requested_by,
        started_at=from_text(row.started_at),
        ended_at=from_text(row.ended_at) if row.ended_at else None,
        exit_code=row.exit_code,
        reason=row.reason,
        queued=row.queued,
        schedule=row.schedule,
        steps=steps,
    )


def _steps(connection: Connection, run_id: str) -> tuple[StepRecord, ...]:
    attempts = defaultdict(list)
    query = select(tables.attempt).where(tables.attempt.c.run_id == run_id).order_by(tables.attempt.c.number)
    for row in connection.execute(query):
        attempts[row.seq].append(
            Attempt(
                number=row.number,
                fence=row.fence,
                intent_at=from_text(row.intent_at),
                outcome=Outcome(row.outcome) if row.outcome else None,
                reason=row.reason,
                duration_ms=row.duration_ms,
                ways=row.ways,
            )
        )
    found = connection.execute(select(tables.step).where(tables.step.c.run_id == run_id).order_by(tables.step.c.seq))
    return tuple(
        StepRecord(
            seq=row.seq,
            step=_step(row.spec),
            state=StepState(row.state),
            attempts=tuple(attempts[row.seq]),
            outputs=row.outputs,
            results=tuple(_results(connection, run_id, row.seq, len(attempts[row.seq]))),
            undo_of=row.undo_of,
        )
        for row in found.all()
    )


def _results(connection: Connection, run_id: str, seq: int, attempt: int) -> Sequence[Result]:
    of = (tables.result.c.run_id == run_id) & (tables.result.c.seq == seq) & (tables.result.c.attempt == attempt)
    return [
        Result(
            host=row.host,
            task=row.task,
            outcome=Outcome(row.outcome),
            message=row.message,
            duration_ms=row.duration_ms,
            ignored=row.ignored,
        )
        for row in connection.execute(select(tables.result).where(of).order_by(tables.result.c.n))
    ]


def _step(spec: dict[str, Any]) -> Step:
    return Step(
        **{
            **spec,
            "kind": StepKind(spec["kind"]),
            "on_interrupt": OnInterrupt(spec["on_interrupt"]),
            "roles": tuple(spec["roles"]),
        }
    )
