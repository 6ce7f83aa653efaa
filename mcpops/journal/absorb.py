"""Taking in what was done without the journal: the records that rollbacks write by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from mcpops.core.canonical import digest
from mcpops.core.clock import Clock, from_text, to_text
from mcpops.core.errors import ExitCode
from mcpops.journal import chain, tables
from mcpops.journal.store import Store
from mcpops.model.outcome import Outcome
from mcpops.model.run import RunState, StepState
from mcpops.model.step import Step, StepKind

# A rollback takes seconds. One without an outcome for so long was killed; what it did is unknown.
PATIENCE = timedelta(minutes=10)
_OUTCOMES = {StepState.DONE.value: Outcome.CHANGED, StepState.FAILED.value: Outcome.FAILED}


def absorb(store: Store, clock: Clock, files: Iterable[Path]) -> list[str]:
    """Write each record that the journal lacks as a run; return their ids. A file is read once and stays.

    A file that is no such record is left alone: it is somebody's evidence, not ours to judge.
    """
    with store.read() as connection:
        known = set(connection.execute(select(tables.run.c.id)).scalars())
    taken = []
    for path in sorted(files):
        if path.stem in known:
            continue
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            ready = _settled(told, clock)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if ready:
            with store.write() as connection:
                _write(connection, clock, told)
            taken.append(told["id"])
    return taken


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


def _write(connection: Connection, clock: Clock, told: Mapping[str, Any]) -> None:
    run_id, row = told["id"], told["steps"][0]
    same = ("id", "environment", "runbook", "state", "plan_digest", "parameters", "requested_by")
    rest = ("started_at", "ended_at", "exit_code", "reason")
    connection.execute(insert(tables.run).values({key: told[key] for key in (*same, *rest)} | {"snapshot": ""}))
    step = Step(name="rollback", kind=StepKind.PLAY, hosts="fronts", body="", line=0, direct="rollback")
    spec = {**vars(step), "roles": []}
    place = {"run_id": run_id, "seq": 1}
    connection.execute(
        insert(tables.step).values(
            **place, name=step.name, kind=step.kind, spec=spec, state=row["state"], outputs=row["outputs"]
        )
    )
    duration_ms = round((row["duration_s"] or 0) * 1000)
    intent_at = from_text(row["started_at"])
    connection.execute(
        insert(tables.attempt).values(
            **place,
            number=1,
            fence=told["fence"],
            intent_at=row["started_at"],
            intent_at_ns=int(intent_at.timestamp() * 1e9),
            outcome=_OUTCOMES.get(row["state"], Outcome.UNKNOWN),
            reason=told["reason"],
            duration_ms=duration_ms,
        )
    )
    if row["results"]:
        rows = [{**place, "attempt": 1, "n": n, **result} for n, result in enumerate(row["results"], 1)]
        connection.execute(insert(tables.result), rows)
    _raise_fence(connection, told["environment"], told["fence"])
    body = {"seq": 1, "attempt": 1, "results": digest(row["results"]), "fence": told["fence"], "state": told["state"]}
    at = to_text(clock.now())
    chain.append(connection, run_id=run_id, at=at, kind="outcome", body=body)


def _raise_fence(connection: Connection, environment: str, fence: int) -> None:
    """Let a later run outrank the rollback on the hosts, whatever this machine's clock says."""
    here = tables.environment.c.name == environment
    known = connection.execute(select(tables.environment.c.fence).where(here)).scalar_one_or_none()
    if known is None:
        connection.execute(insert(tables.environment).values(name=environment, fence=fence))
    # A lease is bound to its fence: while somebody holds it, the number stays theirs.
    free = here & tables.environment.c.run_id.is_(None) & (tables.environment.c.fence < fence)
    connection.execute(update(tables.environment).where(free).values(fence=fence))
