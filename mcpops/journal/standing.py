"""Where a run stands at this moment, asked inside the transaction that acts on it: it may have ended meanwhile."""

from __future__ import annotations

from sqlalchemy import Connection, select

from mcpops.core.errors import UsageError
from mcpops.journal import tables
from mcpops.model.run import RunState


def require_open(connection: Connection, run_id: str, *, otherwise: str) -> RunState:
    """Return the state of a run; raise UsageError when it ended, or is not there: `otherwise` says what comes of it."""
    found = connection.execute(select(tables.run.c.state).where(tables.run.c.id == run_id)).scalar_one_or_none()
    if found is None:
        raise UsageError(f"no run {run_id!r} in the journal", hint="`mcpops runs list` shows them")
    state = RunState(found)
    if state.ended:
        raise UsageError(
            f"run {run_id} is {state.value}; {otherwise}", hint=f"`mcpops runs show {run_id}` says how it ended"
        )
    return state
