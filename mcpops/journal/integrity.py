"""Whether the record is true: the chain is whole, and the tables say of each run what its rows in the chain say.

The rows of a run are folded into what they tell of it, one after the other, and that is compared with the tables. So
a row that was taken out of a table, or off the end of the chain, shows as well as one that was changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select, union

from mcpops.core.canonical import digest
from mcpops.core.errors import ExitCode
from mcpops.journal import chain, ledger, seal, tables
from mcpops.journal.writes import state_after
from mcpops.model.outcome import Outcome
from mcpops.model.run import RunState, StepState

Step = tuple[int]  # its seq
Try = tuple[int, int]  # the seq of a step, and the number of the attempt
Pair = tuple[str, Any, Any]  # a name, what the record says, what the tables say


@dataclass
class Told:
    """What the rows of a run tell of it. `run` holds columns of the table; one that is not there is not compared.

    `partial`: they tell neither attempts nor steps.
    """

    run: dict[str, Any] = field(default_factory=lambda: {"state": RunState.RUNNING.value})
    steps: dict[Step, str] = field(default_factory=dict)
    outputs: dict[Step, str] = field(default_factory=dict)
    planned: dict[Step, str] = field(default_factory=dict)
    parameters: str | None = None
    attempts: dict[Try, tuple[str | None, str]] = field(default_factory=dict)
    ways: dict[Try, Mapping[str, Any]] = field(default_factory=dict)
    results: dict[Try, str] = field(default_factory=dict)
    approvals: dict[Try, tuple[Any, ...]] = field(default_factory=dict)
    partial: bool = False


def wrong(
    connection: Connection,
    run_id: str | None = None,
    trusted: Collection[str] | None = None,
    seen: Iterable[Mapping[str, Any] | None] = (),
) -> str | None:
    """Return what is wrong with the record of a run, or of all runs, naming it; or None.

    Of a run: its part of the chain and its tables. Of all: the whole chain too, what it says beside the runs, and the
    seals, which must be by one of the keys `trusted` (None leaves the seals alone) and hold those that were `seen`.
    """
    try:
        broken = chain.verify(connection, run_id)
        if broken or run_id:
            return broken or _differs(connection, str(run_id))
        let_go, beside = ledger.pruned(connection), tables.record.c.kind.in_(ledger.KINDS)
        known = union(select(tables.run.c.id), select(tables.record.c.run_id).where(~beside)).order_by("id")
        runs = [each for each in connection.execute(known).scalars() if each not in let_go]
        back = sorted(let_go & set(connection.execute(select(tables.run.c.id)).scalars()))
        if back:
            return f"run {back[0]} is in the journal, and the record says that it was let go"
        told = next(filter(None, (_differs(connection, each) for each in runs)), None) or ledger.wrong(connection)
        return told or (None if trusted is None else seal.wrong(connection, trusted, seen))
    except (ValueError, KeyError, TypeError) as error:
        return f"the journal holds what no mcpops wrote: {error!r}"


def _differs(connection: Connection, run_id: str) -> str | None:
    """Compare a run in the tables with what the chain tells of it."""
    query = select(tables.record).where(tables.record.c.run_id == run_id).order_by(tables.record.c.n)
    rows = [row for row in connection.execute(query).mappings() if row["kind"] not in ledger.KINDS]
    if not rows:
        return f"run {run_id} has no row in the record"
    told = Told()
    for row in rows:
        _KINDS[row["kind"]](told, row["body"])
    run = connection.execute(select(tables.run).where(tables.run.c.id == run_id)).mappings().first()
    if run is None:
        return f"run {run_id} is in the record and not in the journal"
    for name, says, seen in _pairs(connection, run, told):
        if says != seen:
            return f"{name} of run {run_id} is not what was written: it is {seen!r}, the record says {says!r}"
    return None


def _pairs(connection: Connection, run: Mapping[Any, Any], told: Told) -> Iterator[Pair]:
    """Yield everything that the record and the tables both know of a run."""
    run_id = run["id"]
    for name, value in told.run.items():
        yield f"the {name}", value, run[name]
    yield from _both("what step {}, attempt {} came to", told.results, _results(connection, run_id), digest([]))
    yield from _both("decision {1} on step {0}", told.approvals, _approvals(connection, run_id))
    if told.partial:
        return
    yield from _both("step {}, attempt {}", told.attempts, _attempts(connection, run_id))
    yield from _both("the ways of step {}, attempt {}", told.ways, _ways(connection, run_id), {})
    steps = connection.execute(select(tables.step).where(tables.step.c.run_id == run_id)).all()
    pending = {(row.seq,): StepState.PENDING.value for row in steps}
    if told.planned:  # an mcpops of the first schema told nothing of what a step is
        yield from _both("what step {} is", told.planned, {(row.seq,): digest(row.spec) for row in steps})
    if told.parameters is not None:
        yield "the parameters", told.parameters, digest(run["parameters"])
    yield from _both("the state of step {}", pending | told.steps, {(row.seq,): row.state for row in steps})
    outputs = {(row.seq,): digest(row.outputs) for row in steps}
    yield from _both("what step {} hands on", told.outputs, outputs, digest({}))


def _both(name: str, told: Mapping[Any, Any], seen: Mapping[Any, Any], missing: object = None) -> Iterator[Pair]:
    """Yield what is known of each key of either; the other may not have it."""
    for key in sorted(told.keys() | seen.keys()):
        yield name.format(*key), told.get(key, missing), seen.get(key, missing)


def _attempts(connection: Connection, run_id: str) -> dict[Try, tuple[str | None, str]]:
    found = connection.execute(select(tables.attempt).where(tables.attempt.c.run_id == run_id))
    return {(row.seq, row.number): (row.outcome, row.reason) for row in found}


def _ways(connection: Connection, run_id: str) -> dict[Try, Mapping[str, Any]]:
    found = connection.execute(select(tables.attempt).where(tables.attempt.c.run_id == run_id))
    return {(row.seq, row.number): row.ways for row in found}


def _results(connection: Connection, run_id: str) -> dict[Try, str]:
    names = ("host", "task", "outcome", "message", "duration_ms", "ignored")
    query = select(tables.result).where(tables.result.c.run_id == run_id).order_by(tables.result.c.n)
    rows: dict[Try, list[dict[str, Any]]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        rows[row["seq"], row["attempt"]].append({name: row[name] for name in names})
    return {key: digest(found) for key, found in rows.items()}


_DECISION = ("decision", "by", "plan_digest", "signature", "expires_at")


def _approvals(connection: Connection, run_id: str) -> dict[Try, tuple[Any, ...]]:
    found = connection.execute(select(tables.approval).where(tables.approval.c.run_id == run_id))
    return {(row.seq, row.n): tuple(getattr(row, name) for name in _DECISION) for row in found}


def _fold_run(told: Told, body: Mapping[str, Any]) -> None:
    told.run |= {name: body[name] for name in ("environment", "runbook", "plan_digest")}
    told.run["requested_by"] = body["by"]
    if "schedule" in body:
        told.run |= {"schedule": body["schedule"], "snapshot": body["snapshot"]}
        told.parameters = body["parameters"]
        told.planned = {(seq,): said for seq, said in enumerate(body["steps"], 1)}
    if "queued" in body:
        told.run |= {"state": RunState.QUEUED.value, "queued": body["queued"]}


def _fold_resume(told: Told, _body: Mapping[str, Any]) -> None:
    """Take a run up again: how it stopped is no longer said, and what was open was interrupted."""
    told.run = {name: value for name, value in told.run.items() if name not in ("exit_code", "reason")}
    told.run["state"] = RunState.RUNNING.value
    for key, (outcome, _) in told.attempts.items():
        if outcome is None:
            told.attempts[key] = (Outcome.UNKNOWN.value, "interrupted")


def _fold_intent(told: Told, body: Mapping[str, Any]) -> None:
    told.attempts[body["seq"], body["attempt"]] = (None, "")
    told.steps[body["seq"],] = StepState.RUNNING.value


def _fold_outcome(told: Told, body: Mapping[str, Any]) -> None:
    key = (body["seq"], body["attempt"])
    told.results[key] = body["results"]
    if "outcome" not in body:  # a rollback, taken in by an mcpops that wrote no more than this of it
        told.run, told.partial = {"state": body["state"]}, True
        return
    told.attempts[key] = (body["outcome"], body["reason"])
    told.ways[key] = body.get("ways", {})  # an mcpops of an earlier schema told none
    told.steps[body["seq"],] = state_after(Outcome(body["outcome"])).value
    told.outputs[body["seq"],] = body["outputs"]
    for said in body.get("undo_steps", ()):
        told.planned[len(told.planned) + 1,] = said


def _fold_step(told: Told, body: Mapping[str, Any]) -> None:
    told.steps[body["seq"],] = body["state"]


def _fold_end(told: Told, body: Mapping[str, Any]) -> None:
    told.run |= {name: body[name] for name in ("state", "exit_code", "reason")}


def _fold_abandon(told: Told, body: Mapping[str, Any]) -> None:
    said = f"abandoned by {body['by']}: {body['reason']}"
    told.run |= {"state": RunState.ABANDONED.value, "exit_code": int(ExitCode.FAILED), "reason": said}


def _fold_approval(told: Told, body: Mapping[str, Any]) -> None:
    number = 1 + sum(seq == body["seq"] for seq, _ in told.approvals)
    told.approvals[body["seq"], number] = tuple(body[name] for name in _DECISION)


def _fold_absorbed(told: Told, body: Mapping[str, Any]) -> None:
    _fold_run(told, body)
    _fold_outcome(told, body)
    _fold_end(told, body)


_KINDS: dict[str, Callable[[Told, Mapping[str, Any]], None]] = {
    "run": _fold_run,
    "resume": _fold_resume,
    "intent": _fold_intent,
    "outcome": _fold_outcome,
    "step": _fold_step,
    "end": _fold_end,
    "abandon": _fold_abandon,
    "approval": _fold_approval,
    "absorbed": _fold_absorbed,
}
