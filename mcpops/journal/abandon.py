"""Giving a run up: explicit, by a named person, recorded; it frees the environment."""

from __future__ import annotations

from sqlalchemy import update

from mcpops.core.canonical import canonical
from mcpops.core.clock import Clock, to_text
from mcpops.core.errors import Busy, ExitCode
from mcpops.journal import lease, seal, tables
from mcpops.journal.standing import require_open
from mcpops.journal.store import Store
from mcpops.journal.writes import announce
from mcpops.model.run import Run, RunState


def message(run_id: str, reason: str) -> bytes:
    """Return the bytes that whoever gives a run up signs."""
    return canonical({"mcpops": "abandon", "run": run_id, "reason": reason})


def abandon(store: Store, clock: Clock, run: Run, *, by: str, reason: str, signature: str | None = None) -> None:
    """End a run that is queued, waits, is broken or was interrupted; `signature` is over `message()`, by a key of `by`.

    Raises UsageError (it ended), Busy (it still runs).
    """
    at = to_text(clock.now())
    with store.write() as connection:
        require_open(connection, run.id, otherwise="there is nothing to give up")
        held = lease.current(connection, run.environment)
        mine = held is not None and held.run_id == run.id
        if held is not None and mine and not lease.is_dead(held, clock):
            raise Busy(f"run {run.id} still runs", detail=f"holder {held.holder}", hint="end it first (Ctrl-C there)")
        here = tables.environment.c.name == run.environment
        nobody = {"run_id": None, "holder": None, "doing": None, "since": None, "until": None}
        if mine:
            connection.execute(update(tables.environment).where(here).values(**nobody, dirty=True))
        unlock = here & (tables.environment.c.broken_run_id == run.id)
        connection.execute(update(tables.environment).where(unlock).values(broken_run_id=None))
        said = f"abandoned by {by}: {reason}"
        ended = {"state": RunState.ABANDONED, "exit_code": int(ExitCode.FAILED), "reason": said}
        connection.execute(update(tables.run).where(tables.run.c.id == run.id).values(**ended, ended_at=at))
        announce(connection, store, run.id, at=clock.now(), body=ended)
        body = {"by": by, "reason": reason, "signature": signature}
        seal.append(connection, store.sealer, run_id=run.id, at=at, kind="abandon", body=body)
