"""The lease: one run at a time in an environment, and every write proves that it still holds it.

A lease that expired, or whose process is gone from this machine, admits only the same run (`runs resume`); another
run never gets an environment that was left in the middle of something. `abandon` is the explicit way out.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select, update

from mcpops.core.clock import Clock, from_text, to_text
from mcpops.core.errors import Broken, Busy, Fenced
from mcpops.core.ids import new_fence
from mcpops.journal.tables import environment
from mcpops.model.run import Lease

if TYPE_CHECKING:
    from sqlalchemy import RowMapping

LEASE_S = 30.0  # a holder renews each quarter; a frozen one is outranked after this


def this_holder() -> str:
    """Return `host:place:pid:start`, by which a later process can tell whether this one still runs."""
    return f"{socket.gethostname()}:{_place()}:{os.getpid()}:{_started(os.getpid())}"


def holder_is_gone(holder: str) -> bool:
    """Whether the holder ran on this machine and does not any more; unknown hosts count as alive."""
    host, place, pid, started = holder.rsplit(":", 3)
    machine, boot, namespace = [*place.split("."), "", ""][:3]
    here, now, mine = _place().split(".")
    if host != socket.gethostname() or machine != here:
        return False
    # In another PID namespace (a container beside this one) /proc says nothing of that process.
    return boot != now or (namespace == mine and _started(int(pid)) != started)


def acquire(connection: Connection, clock: Clock, *, name: str, run_id: str, doing: str) -> Lease:
    """Take the lease of environment `name`, or take it over for the same run; raise Busy or Broken."""
    now = clock.now()
    row = connection.execute(select(environment).where(environment.c.name == name)).mappings().first()
    if row is None:
        connection.execute(insert(environment).values(name=name, fence=0))
        highest, dirty = 0, False
    else:
        _require_free(row, clock, run_id)
        highest, dirty = row["fence"], bool(row["dirty"] or row["run_id"])
    lease = Lease(
        environment=name,
        fence=new_fence(now, highest),
        run_id=run_id,
        holder=this_holder(),
        doing=doing,
        since=now,
        until=now + timedelta(seconds=LEASE_S),
        dirty=dirty,
    )
    connection.execute(
        update(environment)
        .where(environment.c.name == name)
        .values(
            fence=lease.fence,
            run_id=run_id,
            holder=lease.holder,
            doing=doing,
            since=to_text(now),
            until=to_text(lease.until),
            dirty=dirty,
        )
    )
    return lease


def _require_free(row: RowMapping, clock: Clock, run_id: str) -> None:
    """Raise Broken when another run's failed undo locks an environment, Busy when another run holds it."""
    name, broken = row["name"], row["broken_run_id"]
    if broken and broken != run_id:
        raise Broken(
            f"environment {name} is locked: the undo of run {broken} failed",
            hint=f"`mcpops runs show {broken}` says what failed; mend it, then `mcpops runs resume {broken}` "
            f"tries the undo again, or `mcpops runs abandon {broken} --yes` gives it up",
        )
    if row["run_id"] and not (row["run_id"] == run_id and _admits_takeover(row, clock)):
        raise _busy(name, row, clock)


def cleaned(connection: Connection, lease: Lease) -> None:
    """Write that all hosts know the fence of this lease, so that nothing of an earlier one acts any more."""
    mine = (environment.c.name == lease.environment) & (environment.c.fence == lease.fence)
    connection.execute(update(environment).where(mine).values(dirty=False))


def renew(connection: Connection, clock: Clock, lease: Lease) -> None:
    """Prove that the lease is still ours, and extend it, in the caller's transaction; raise Fenced."""
    until = to_text(clock.now() + timedelta(seconds=LEASE_S))
    mine = (environment.c.name == lease.environment) & (environment.c.fence == lease.fence)
    done = connection.execute(update(environment).where(mine & environment.c.run_id.is_not(None)).values(until=until))
    if done.rowcount == 0:
        raise Fenced(
            f"run {lease.run_id} lost its lease on environment {lease.environment}",
            detail=f"fence {lease.fence} is no longer the highest",
            hint="`mcpops status` says who acts now; nothing more was done here",
        )


def release(connection: Connection, lease: Lease, *, broken: bool = False) -> None:
    """Give the lease back; with `broken`, lock the environment for everybody but this run."""
    mine = (environment.c.name == lease.environment) & (environment.c.fence == lease.fence)
    nobody = {"run_id": None, "holder": None, "doing": None, "since": None, "until": None}
    broken_run_id = lease.run_id if broken else None
    connection.execute(update(environment).where(mine).values(**nobody, broken_run_id=broken_run_id))


def current(connection: Connection, name: str) -> Lease | None:
    """Return who holds the lease of environment `name`, expired or not."""
    row = connection.execute(select(environment).where(environment.c.name == name)).mappings().first()
    if row is None or row["run_id"] is None:
        return None
    return Lease(
        environment=name,
        fence=row["fence"],
        run_id=row["run_id"],
        holder=row["holder"],
        doing=row["doing"],
        since=from_text(row["since"]),
        until=from_text(row["until"]),
        dirty=bool(row["dirty"]),
    )


def locked_by(connection: Connection, name: str) -> str | None:
    """Return the run whose failed undo locks environment `name`."""
    query = select(environment.c.broken_run_id).where(environment.c.name == name)
    return connection.execute(query).scalar_one_or_none()


def is_dead(lease: Lease, clock: Clock) -> bool:
    """Whether nobody can be acting under this lease any more."""
    return clock.now() >= lease.until or holder_is_gone(lease.holder)


def _admits_takeover(row: RowMapping, clock: Clock) -> bool:
    return clock.now() >= from_text(row["until"]) or holder_is_gone(row["holder"])


def _busy(name: str, row: RowMapping, clock: Clock) -> Busy:
    run_id = row["run_id"]
    if _admits_takeover(row, clock):
        detail = f"run {run_id} ({row['doing']}) was interrupted; it began at {row['since']}"
        hint = f"`mcpops runs resume {run_id}` ends it; `mcpops runs abandon {run_id} --yes` gives it up"
    else:
        detail = f"run {run_id} ({row['doing']}) by {row['holder'].split(':')[0]} since {row['since']}"
        hint = f"`mcpops runs watch {run_id}` follows it; in an emergency `mcpops rollback` takes precedence"
    return Busy(f"another run holds environment {name}", detail=detail, hint=hint)


def _place() -> str:
    """Return `machine.boot.namespace`: in which numbers of processes mean the same as here."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    try:
        machine = Path("/etc/machine-id").read_text().strip()[:8]  # machine-id(5)
    except OSError:
        machine = ""
    return f"{machine}.{boot}.{Path('/proc/self/ns/pid').stat().st_ino}"


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks since boot (proc(5), stat field 22), or `gone`."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
