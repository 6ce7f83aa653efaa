"""Writing a run: each write renews the lease in its own transaction, and leaves a row in the hash chain."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from mcpops.core.canonical import digest
from mcpops.core.clock import Clock, to_text
from mcpops.core.errors import ExitCode
from mcpops.journal import chain, firings, lease, outbox, seal, tables
from mcpops.journal.firings import Firing
from mcpops.journal.standing import require_open
from mcpops.journal.store import Store
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import Lease, Request, RunState, StepState
from mcpops.model.step import Step


class RunWriter:
    """The right to write one run: made by `begin` or `take_over`, ended by `end`."""

    def __init__(self, store: Store, clock: Clock, held: Lease) -> None:
        self.store = store
        self.clock = clock
        self.lease = held
        self.run_id = held.run_id

    @classmethod
    def begin(
        cls, store: Store, clock: Clock, run_id: str, request: Request, *, firing: Firing | None = None
    ) -> RunWriter:
        """Take the lease and write the run with its steps, in one transaction; and the time of a schedule with it.

        Raises Busy, Broken, and AlreadyDecided when another scheduler had that time: then nothing is written.
        """
        with store.write() as connection:
            doing = f"runbook {request.runbook}"
            held = lease.acquire(connection, clock, name=request.environment, run_id=run_id, doing=doing)
            writer = cls(store, clock, held)
            if firing:
                firings.insert_one(connection, clock, firing)
            _insert_run(connection, clock, run_id, request, RunState.RUNNING, {"fence": held.fence})
        return writer

    @classmethod
    def take_over(cls, store: Store, clock: Clock, environment: str, run_id: str) -> RunWriter:
        """Take the lease for a run that is queued, was interrupted, waits or is broken; how it stopped is said no more.

        Raises UsageError (it ended), Busy.
        """
        with store.write() as connection:
            require_open(connection, run_id, otherwise="there is nothing to resume")
            held = lease.acquire(connection, clock, name=environment, run_id=run_id, doing="resume")
            going = {"state": RunState.RUNNING, "exit_code": None, "reason": "", "ended_at": None}
            connection.execute(update(tables.run).where(tables.run.c.id == run_id).values(**going))
            unfinished = (tables.attempt.c.run_id == run_id) & tables.attempt.c.outcome.is_(None)
            connection.execute(
                update(tables.attempt).where(unfinished).values(outcome=Outcome.UNKNOWN, reason="interrupted")
            )
            writer = cls(store, clock, held)
            writer._chain(connection, "resume", {"fence": held.fence})
        return writer

    def renew(self) -> None:
        """Keep the lease; raise Fenced when it is lost, and Unavailable soon when another process writes."""
        with self._fenced(hurried=True):
            pass

    def hosts_taken(self) -> None:
        """Write that every host knows the fence of this run: what an earlier holder left cannot act any more."""
        with self._fenced() as connection:
            lease.cleaned(connection, self.lease)
        self.lease = replace(self.lease, dirty=False)

    def intend(self, seq: int, number: int) -> int:
        """Write that try `number` of step `seq` begins; return the moment, in ns of Unix time, after the fsync."""
        at = self.clock.now()
        with self._fenced() as connection:
            connection.execute(
                insert(tables.attempt).values(
                    run_id=self.run_id,
                    seq=seq,
                    number=number,
                    fence=self.lease.fence,
                    intent_at=to_text(at),
                    intent_at_ns=time.time_ns(),
                )
            )
            self._set_step(connection, seq, StepState.RUNNING)
            self._chain(connection, "intent", {"seq": seq, "attempt": number, "fence": self.lease.fence})
        return time.time_ns()

    def conclude(
        self,
        seq: int,
        number: int,
        report: AttemptReport,
        *,
        undo: Sequence[tuple[int, Step]] = (),
        next_seq: int = 0,
        interrupted: Sequence[int] = (),
    ) -> None:
        """Write the outcome of a try, and the undo steps that it calls for, in one transaction.

        `undo` pairs the seq of a step with the step that takes it back; they get seq `next_seq`, `next_seq + 1`, ….
        `interrupted` are steps of which no more will be known: an earlier process began them.
        """
        with self._fenced() as connection:
            self._close_attempt(connection, seq, number, report)
            self._set_step(connection, seq, state_after(report.outcome), outputs=dict(report.outputs))
            for other in interrupted:
                self._leave(connection, other, StepState.UNKNOWN, why="interrupted")
            for offset, (undone, step) in enumerate(undo):
                _add_step(connection, self.run_id, next_seq + offset, step, undo_of=undone)
            self._chain(
                connection,
                "outcome",
                {
                    "seq": seq,
                    "attempt": number,
                    "outcome": report.outcome,
                    "reason": report.reason,
                    "outputs": digest(dict(report.outputs)),
                    "results": results_digest(report.results),
                    "ways": dict(report.ways),
                    "undo": [step.name for _, step in undo],
                    "undo_steps": [digest(asdict(step)) for _, step in undo],
                },
            )

    def set_step(self, seq: int, state: StepState, *, why: str) -> None:
        """Write a state that no attempt explains: a gate that waits, a step that a probe found done."""
        with self._fenced() as connection:
            self._leave(connection, seq, state, why=why)

    def end(self, state: RunState, exit_code: ExitCode, reason: str) -> None:
        """Write the end of the run, or that it waits, and give the lease back."""
        ended_at = to_text(self.clock.now()) if state.ended or state is RunState.BROKEN else None
        with self._fenced() as connection:
            connection.execute(
                update(tables.run)
                .where(tables.run.c.id == self.run_id)
                .values(state=state, exit_code=int(exit_code), reason=reason, ended_at=ended_at)
            )
            at, body = self.clock.now(), {"state": state, "exit_code": int(exit_code), "reason": reason}
            announce(connection, self.store, self.run_id, at=at, body=body)
            seal.append(connection, self.store.sealer, run_id=self.run_id, at=to_text(at), kind="end", body=body)
            lease.release(connection, self.lease, broken=state is RunState.BROKEN)

    @contextmanager
    def _fenced(self, *, hurried: bool = False) -> Iterator[Connection]:
        with self.store.write(hurried=hurried) as connection:
            lease.renew(connection, self.clock, self.lease)
            yield connection

    def _set_step(
        self, connection: Connection, seq: int, state: StepState, *, outputs: Mapping[str, Any] | None = None
    ) -> None:
        values: dict[str, Any] = {"state": state}
        if outputs is not None:
            values["outputs"] = outputs
        where = (tables.step.c.run_id == self.run_id) & (tables.step.c.seq == seq)
        connection.execute(update(tables.step).where(where).values(**values))

    def _leave(self, connection: Connection, seq: int, state: StepState, *, why: str) -> None:
        self._set_step(connection, seq, state)
        self._chain(connection, "step", {"seq": seq, "state": state, "why": why})

    def _close_attempt(self, connection: Connection, seq: int, number: int, report: AttemptReport) -> None:
        row = tables.attempt.c
        connection.execute(
            update(tables.attempt)
            .where((row.run_id == self.run_id) & (row.seq == seq) & (row.number == number))
            .values(
                outcome=report.outcome,
                reason=report.reason,
                duration_ms=round(report.duration_s * 1000),
                ways=dict(report.ways),
            )
        )
        if report.results:
            rows = [
                {"run_id": self.run_id, "seq": seq, "attempt": number, "n": n, **asdict(result)}
                for n, result in enumerate(report.results, 1)
            ]
            connection.execute(insert(tables.result), rows)

    def _chain(self, connection: Connection, kind: str, body: Mapping[str, Any]) -> None:
        chain.append(connection, run_id=self.run_id, at=to_text(self.clock.now()), kind=kind, body=body)


def queue(
    store: Store, clock: Clock, run_id: str, request: Request, tar: bytes, *, firing: Firing | None = None
) -> None:
    """Write a run that a worker begins once its environment is free; `tar` holds the files of the run.

    With `firing`, the time of a schedule is written with it; raises AlreadyDecided when another scheduler had it.
    """
    with store.write() as connection:
        if firing:
            firings.insert_one(connection, clock, firing)
        _insert_run(connection, clock, run_id, request, RunState.QUEUED, {"queued": True})
        connection.execute(insert(tables.snapshot).values(run_id=run_id, tar=tar))


def announce(
    connection: Connection, store: Store, run_id: str, *, at: datetime, body: Mapping[str, Any], event: str = ""
) -> None:
    """Write the notices of a run that ended or waits, for the channels that hear of that `event` (else: its state)."""
    event = event or str(body["state"])
    run = connection.execute(select(tables.run).where(tables.run.c.id == run_id)).one()
    channels = store.wanted(run.environment, event, run.schedule)
    same = ("environment", "runbook", "plan_digest", "requested_by", "schedule")
    told = {"event": event, "run": run_id, **{name: getattr(run, name) for name in same}, **body}
    outbox.enqueue(connection, channels, run_id=run_id, at=at, body=told)


def _insert_run(
    connection: Connection, clock: Clock, run_id: str, request: Request, state: RunState, more: Mapping[str, Any]
) -> None:
    at = to_text(clock.now())
    same = {"environment": request.environment, "runbook": request.runbook, "plan_digest": request.plan_digest}
    connection.execute(
        insert(tables.run).values(
            id=run_id,
            **same,
            state=state,
            snapshot=request.snapshot,
            parameters=dict(request.parameters),
            requested_by=request.requested_by,
            started_at=at,
            queued=state is RunState.QUEUED,
            schedule=request.schedule,
        )
    )
    for seq, step in enumerate(request.steps, 1):
        _add_step(connection, run_id, seq, step)
    planned = {
        "snapshot": request.snapshot,
        "parameters": digest(dict(request.parameters)),
        "steps": [digest(asdict(step)) for step in request.steps],
    }
    body = {**same, "by": request.requested_by, "schedule": request.schedule, **planned, **more}
    chain.append(connection, run_id=run_id, at=at, kind="run", body=body)


def _add_step(connection: Connection, run_id: str, seq: int, step: Step, *, undo_of: int | None = None) -> None:
    connection.execute(
        insert(tables.step).values(
            run_id=run_id,
            seq=seq,
            name=step.name,
            kind=step.kind,
            spec=asdict(step),
            state=StepState.PENDING,
            outputs={},
            undo_of=undo_of,
        )
    )


def state_after(outcome: Outcome) -> StepState:
    """Return where a step stands after a try with this outcome."""
    if outcome is Outcome.UNKNOWN:
        return StepState.UNKNOWN
    return StepState.DONE if outcome.good else StepState.FAILED


def results_digest(results: Sequence[Result]) -> str:
    """Return the digest that the chain keeps of an attempt's results."""
    return digest([asdict(result) for result in results])
