"""Taking in what was done without the journal: the records that rollbacks write by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import StatementError

from mcpops.core.canonical import digest
from mcpops.core.clock import Clock, from_text, to_text
from mcpops.core.errors import ExitCode
from mcpops.journal import ledger, seal, tables
from mcpops.journal.store import Store
from mcpops.journal.writes import announce, state_after
from mcpops.model.outcome import Outcome, Result
from mcpops.model.run import RunState, StepState
from mcpops.model.step import Step, StepKind

# A rollback takes seconds. One without an outcome for so long was killed; what it did is unknown.
PATIENCE = timedelta(minutes=10)
_NO_RECORD = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, StatementError)
_OUTCOMES = {StepState.DONE.value: Outcome.CHANGED, StepState.FAILED.value: Outcome.FAILED}


def absorb(store: Store, clock: Clock, files: Iterable[Path]) -> list[str]:
    """Write each record that the journal lacks as a run; return their ids. A file is read once and stays.

    A file that is no such record, or a copy of one under another name, is left alone: it is somebody's evidence, not
    ours to judge. Of several processes that find a record at once, one takes it in.
    """
    found = sorted(files)
    if not found:
        return []
    with store.read() as connection:
        named = tables.run.c.id.in_([path.stem for path in found])
        known = set(connection.execute(select(tables.run.c.id).where(named)).scalars())
        if {path.stem for path in found} - known:
            known |= ledger.pruned(connection)  # let go is not the same as not taken in
    taken = []
    for path in found:
        if path.stem in known:
            continue
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["id"] == path.stem and _settled(told, clock) and _take_in(store, clock, _checked(told)):
                taken.append(path.stem)
        except _NO_RECORD:
            continue
    return taken


def _take_in(store: Store, clock: Clock, told: Mapping[str, Any]) -> bool:
    """Write one record, unless another process did so since it was looked for."""
    with store.write() as connection:
        if connection.execute(select(tables.run.c.id).where(tables.run.c.id == told["id"])).first():
            return False
        _write(connection, store, clock, told)
    return True


def _settled(told: dict[str, Any], clock: Clock) -> bool:
    """Whether the rollback has an end; one that was killed gets the end `unknown`."""
    if told["ended_at"]:
        return True
    if clock.now() - from_text(told["started_at"]) < PATIENCE:
        return False
    told |= {"state": RunState.FAILED.value, "exit_code": int(ExitCode.UNKNOWN), "ended_at": told["started_at"]}
    told |= {"reason": "no outcome was written: the rollback was killed"}
    told["steps"][0]["state"] = StepState.UNKNOWN.value
    return True


def _checked(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of which every value is what the tables hold; raise ValueError, KeyError, TypeError."""
    row = told["steps"][0]
    texts = ("id", "environment", "runbook", "plan_digest", "requested_by", "started_at", "ended_at", "reason")
    for name, value in (*((name, told[name]) for name in texts), ("started_at", row["started_at"])):
        if not isinstance(value, str):
            msg = f"{name} is {value!r}, expected text"
            raise TypeError(msg)
    for at in (told["started_at"], told["ended_at"], row["started_at"]):
        from_text(at)
    if not RunState(told["state"]).ended:
        msg = f"state is {told['state']!r}, expected the end of a run"
        raise ValueError(msg)
    StepState(row["state"])
    results = [asdict(Result(**{**result, "outcome": Outcome(result["outcome"])})) for result in row["results"]]
    step = {**row, "results": results, "outputs": dict(row["outputs"]), "duration_s": float(row["duration_s"] or 0)}
    numbers = {"fence": int(told["fence"]), "exit_code": int(told["exit_code"])}
    return {**told, **numbers, "parameters": dict(told["parameters"]), "steps": [step]}


def _write(connection: Connection, store: Store, clock: Clock, told: Mapping[str, Any]) -> None:
    run_id, row = told["id"], told["steps"][0]
    outcome = _OUTCOMES.get(row["state"], Outcome.UNKNOWN)
    same = ("id", "environment", "runbook", "state", "plan_digest", "parameters", "requested_by")
    rest = ("started_at", "ended_at", "exit_code", "reason")
    connection.execute(insert(tables.run).values({key: told[key] for key in (*same, *rest)} | {"snapshot": ""}))
    step = Step(name="rollback", kind=StepKind.PLAY, hosts="fronts", body="", line=0, direct="rollback")
    spec = {**vars(step), "roles": []}
    place = {"run_id": run_id, "seq": 1}
    connection.execute(
        insert(tables.step).values(
            **place, name=step.name, kind=step.kind, spec=spec, state=state_after(outcome), outputs=row["outputs"]
        )
    )
    connection.execute(
        insert(tables.attempt).values(
            **place,
            number=1,
            fence=told["fence"],
            intent_at=row["started_at"],
            intent_at_ns=int(from_text(row["started_at"]).timestamp() * 1e9),
            outcome=outcome,
            reason=told["reason"],
            duration_ms=round(row["duration_s"] * 1000),
        )
    )
    if row["results"]:
        rows = [{**place, "attempt": 1, "n": n, **result} for n, result in enumerate(row["results"], 1)]
        connection.execute(insert(tables.result), rows)
    _raise_fence(connection, told["environment"], told["fence"])
    body = _body(told, outcome)
    # Whatever asks for approvals is passed by: the person on call acts, and everybody hears of it.
    ended = {key: told[key] for key in ("state", "exit_code", "reason")} | {"why": told["parameters"].get("why")}
    announce(connection, store, run_id, at=clock.now(), event="rollback", body=ended)
    seal.append(connection, store.sealer, run_id=run_id, at=to_text(clock.now()), kind="absorbed", body=body)


def _body(told: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Return what the chain keeps of the record; `integrity` compares the tables with it."""
    row = told["steps"][0]
    same = ("environment", "runbook", "plan_digest", "state", "exit_code", "reason", "fence")
    attempt = {"seq": 1, "attempt": 1, "outcome": outcome}
    digests = {"results": digest(row["results"]), "outputs": digest(row["outputs"])}
    return {**{key: told[key] for key in same}, "by": told["requested_by"], **attempt, **digests}


def _raise_fence(connection: Connection, environment: str, fence: int) -> None:
    """Let a later run outrank the rollback on the hosts, whatever this machine's clock says."""
    here = tables.environment.c.name == environment
    known = connection.execute(select(tables.environment.c.fence).where(here)).scalar_one_or_none()
    if known is None:
        connection.execute(insert(tables.environment).values(name=environment, fence=fence))
    # A lease is bound to its fence: while somebody holds it, the number stays theirs.
    free = here & tables.environment.c.run_id.is_(None) & (tables.environment.c.fence < fence)
    connection.execute(update(tables.environment).where(free).values(fence=fence))
