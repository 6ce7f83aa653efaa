"""The guard: a forked process that watches a slot just after a switch and goes back by itself.

It asks the proxy every few milliseconds, because a control node is too far away to be quick. It acts only under the
lock, on the generation and with the fence it was started for; it ends with its time, its right, or its verdict. When
it finds nothing it ends the bake phase itself: a control node that died must not leave the proxy on a hair trigger.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpops.hostside.proxy import Proxy, ProxyDown, ProxyRefused
from mcpops.hostside.routing import BAKE, STEADY, Routing, put_in_force, read_routing, settled
from mcpops.hostside.state import SLOTS, HostError, locked, read_json, write_json

if TYPE_CHECKING:
    from mcpops.hostside.proxy import ServerRow
    from mcpops.hostside.service import Service
    from mcpops.hostside.state import Context

POLL_S = 0.02
# Three, as the proxy's own error-limit in the bake phase: fewer would trip on a single unlucky request.
ERRORS_LIMIT = 3
# Measured for a slot that became slow at 200 requests/s: 30 more open requests than before are there in 0.3 s, and
# were not there after any of 30 healthy switches.
IN_FLIGHT_LIMIT = 30
# A machine that stands still for 150 ms makes as many of them pile up on a healthy slot, which then works them off:
# seen in 2 of about 40 switches at a load of 6 on two cores. One that is slow has them in every sample from then on.
IN_FLIGHT_SAMPLES = 5
# Nobody else goes back: rather late than not at all.
LOCK_PATIENCE_S = 60.0
# More open files than this program ever has.
FILES_LIMIT = 65536

Servers = dict[tuple[str, str], "ServerRow"]


@dataclass(frozen=True)
class Sample:
    """What counts against the new slot: errors since the proxy started, open requests without a session, its state."""

    errors: int
    in_flight: int
    down: bool


def sample(servers: Servers, slot: str) -> Sample:
    """Take a sample of a slot from the proxy's counters."""
    baked, pinned = servers[f"bake_{slot}", slot], servers[f"pin_{slot}", slot]
    return Sample(baked.errors + pinned.errors, baked.open_count, baked.down)


def open_requests(servers: Servers, slot: str) -> int:
    """Return how many requests without a session are open on a slot, in either phase."""
    rows = [servers.get((f"{kind}_{slot}", slot)) for kind in ("bake", "slot")]
    return sum(row.open_count for row in rows if row)


def crowded(baseline: int, now: Sample) -> bool:
    """Return whether more requests are open than a healthy slot has. Pure."""
    return now.in_flight > baseline + IN_FLIGHT_LIMIT


def judge(before: Sample, baseline: int, now: Sample, crowded_samples: int) -> str:
    """Return why the new slot must go, or an empty text; `crowded_samples` in a row, with `now`, were crowded. Pure."""
    errors = now.errors - before.errors
    if errors >= ERRORS_LIMIT:
        return f"{errors} failed requests"
    if now.down and not before.down:
        return "the proxy took it out"
    if crowded_samples >= IN_FLIGHT_SAMPLES:
        return f"{now.in_flight} requests in flight, {baseline} before the switch"
    return ""


def rebase(before: Sample, now: Sample) -> Sample:
    """Return what later samples are compared with: counters begin anew at a reload, and a slot may come up late."""
    errors = before.errors if now.errors >= before.errors else 0
    return Sample(errors, before.in_flight, before.down and now.down)


@dataclass(frozen=True)
class Watch:
    """What a guard watches: the switch from one slot to another as this generation, for so long.

    The time begins when the proxy has the generation.
    """

    context: Context
    service: Service
    old_slot: str
    new_slot: str
    generation: int
    guard_s: float


def start(watch: Watch) -> None:
    """Fork the guard. Called under the lock, after the file is in place and before the proxy is told.

    Without an answer from the proxy there is nothing to watch and no guard: its verdict will be unknown. When this
    returns, the verdict of this generation is `running`.
    """
    try:
        servers = Proxy(watch.service.admin_socket).servers()
        before, baseline = sample(servers, watch.new_slot), open_requests(servers, watch.old_slot)
    except (ProxyDown, ProxyRefused, KeyError):
        return
    record = _record(watch, baseline)
    begin = time.monotonic()
    guard = os.fork()
    if guard:
        # Not fsynced: the record is of no use to anybody once the machine, and with it the guard, has gone down.
        write_json(watch.context.path("guard.json"), {**record, **_identity(guard)}, durable=False)
    else:
        _become_guard(watch, before, record, begin)


def _become_guard(watch: Watch, before: Sample, record: dict[str, Any], begin: float) -> None:
    """Leave the caller's session and open files (its lock, its channel to the control node), and watch. Never returns.

    Under `serve` the ended guard stays a zombie until the channel closes; a second fork to avoid that would double
    the time that a guarded switch takes.
    """
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(3, FILES_LIMIT)
        _watch(watch, before, {**record, **_identity(os.getpid())}, begin)
        code = 0
    finally:
        os._exit(code)


def _identity(pid: int) -> dict[str, Any]:
    """Return what tells a running guard from a later process with the same id."""
    return {"pid": pid, "pid_started": started(pid)}


def _record(watch: Watch, baseline: int) -> dict[str, Any]:
    """Return what guard.json says while the guard runs."""
    return {
        "generation": watch.generation,
        "slot": watch.new_slot,
        "old_slot": watch.old_slot,
        "run": watch.context.run,
        "fence": watch.context.fence,
        "started_at": watch.context.timestamp(),
        "guard_s": watch.guard_s,
        "in_flight_before": baseline,
        "verdict": "running",
    }


def _watch(watch: Watch, before: Sample, record: dict[str, Any], begin: float) -> None:
    """Poll until the time or the bake phase is over, the generation moves on, or the slot fails; write the verdict."""
    proxy, path = Proxy(watch.service.admin_socket), watch.service.maps["active"]
    why, failed, crowded_samples, samples = "", 0, 0, 0
    until = begin + watch.guard_s
    while not why and time.monotonic() < until:
        time.sleep(POLL_S)
        routing = read_routing(watch.service)
        if (routing.generation, routing.phase) != (watch.generation, BAKE):
            break
        try:
            told, servers = proxy.watch(path)
            now = sample(servers, watch.new_slot)
        except (ProxyDown, ProxyRefused, KeyError):
            continue
        if told != routing.as_map():
            continue  # a crash, or a moment, between the file and the proxy: clients do not use the slot yet
        if not samples:
            until = time.monotonic() + watch.guard_s
        samples += 1
        before = rebase(before, now)
        failed = now.errors - before.errors
        crowded_samples = crowded_samples + 1 if crowded(record["in_flight_before"], now) else 0
        why = judge(before, record["in_flight_before"], now, crowded_samples)
    saw = time.monotonic()
    with locked(watch.context, LOCK_PATIENCE_S):
        verdict = _act(watch, why, samples)
        if verdict.get("verdict") == "tripped":
            end = time.monotonic()
            verdict["ms"] = round((end - begin) * 1000, 3)
            verdict["revert_ms"] = round((end - saw) * 1000, 3)
        verdict |= {"ended_at": watch.context.timestamp(), "requests_failed": failed}
        _tell(watch, {**record, **verdict})


def _tell(watch: Watch, record: dict[str, Any]) -> None:
    """Write the verdict, unless a later guard has begun: its record is the one that counts. Called under the lock."""
    path = watch.context.path("guard.json")
    there = read_json(path)
    if there is None or there["generation"] <= watch.generation:
        write_json(path, record)


def _act(watch: Watch, why: str, samples: int) -> dict[str, Any]:
    """Go back (there is a why) or end the bake phase (there is none); return the verdict. Called under the lock.

    `samples`: how often the slot was seen while clients used it. Without any nothing was proved, and nothing is done.
    """
    routing = read_routing(watch.service)
    if routing.generation != watch.generation:
        return {"verdict": "unknown", "why": "another generation came into force"}
    stored = read_json(watch.context.path("fence"), default={})
    if (stored.get("fence"), stored.get("run")) != (watch.context.fence, watch.context.run):
        return {"verdict": "unknown", "why": f"run {stored.get('run')} took over this host"}
    if routing.phase != BAKE:
        return {"verdict": "passed", "why": "the bake phase was ended before the guard's time was over"}
    if not why and not samples:
        return {"verdict": "unknown", "why": f"the proxy did not have generation {watch.generation} or did not answer"}
    if not why:
        problem = _put(watch, routing, settled(routing), "guard: passed")
        if problem:
            return {"verdict": "unknown", "why": f"the bake phase could not be ended: {problem}"}
        return {"verdict": "passed", "why": f"nothing found in {watch.guard_s:g} s"}
    if watch.old_slot not in SLOTS:
        return {"verdict": "tripped", "why": why, "reverted_to": None}
    back = Routing(watch.service.name, watch.old_slot, watch.generation + 1, STEADY)
    problem = _put(watch, routing, back, f"guard: {why}")
    return {
        "verdict": "tripped",
        "why": why,
        "reverted_to": watch.old_slot,
        "reverted_generation": back.generation,
        "problem": problem,
    }


def _put(watch: Watch, old: Routing, new: Routing, reason: str) -> str:
    """Put a routing into force; return what went wrong, or an empty text.

    Clients come first: where the disk takes nothing any more, the proxy is told to go back all the same.
    """

    def tell(routing: Routing) -> None:
        Proxy(watch.service.admin_socket).write_map(watch.service.maps["active"], routing.as_map())

    try:
        put_in_force(watch.context, watch.service, old, new, reason=reason, tell_proxy=tell)
    except HostError as error:
        if new.slot != old.slot:
            with suppress(ProxyDown, ProxyRefused):
                tell(new)
        return str(error)
    except (ProxyDown, ProxyRefused) as error:
        return str(error)
    return ""


def read_verdict(context: Context, generation: int | None = None) -> dict[str, Any]:
    """Return the verdict on a generation (None: the last one watched): passed, tripped, running or unknown, and why.

    Unknown: no guard was started for it, the guard was killed, or another generation or run came first.
    """
    path = context.path("guard.json")
    record = read_json(path)
    if record and record["verdict"] == "running" and started(record["pid"]) != record["pid_started"]:
        # It may have written its verdict and ended since we read; what an ended guard has not written it never will.
        record = read_json(path)
        if record["verdict"] == "running" and started(record["pid"]) != record["pid_started"]:
            record = {**record, "verdict": "unknown", "why": "the guard ended without a verdict"}
    if record is None or generation not in (None, record["generation"]):
        return {"verdict": "unknown", "generation": generation, "why": "no guard watched this generation"}
    return dict(record)


def started(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks; with its id that is unique. None when it has ended."""
    try:
        # proc(5): fields 3 and 22, counted after the command's name, which may contain anything
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else fields[19]
