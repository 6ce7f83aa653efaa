"""Proof of a switch, by two independent means: what each front says of itself, and what a client is served there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mcpops.deploy.cutover import CALL_S
from mcpops.deploy.fleet_state import STEADY, FrontState, read_front
from mcpops.deploy.plan import Move, RollbackPlan
from mcpops.hostside.probe import Target as Endpoint
from mcpops.hostside.probe import probe
from mcpops.hostside.state import HostError
from mcpops.model.outcome import Outcome, Result
from mcpops.model.target import Target
from mcpops.remote.channel import Unreachable
from mcpops.remote.fleet import Fleet, in_parallel

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def prove(fleet: Fleet, plan: RollbackPlan, timeout_s: float) -> list[Result]:
    """Return two rows a front: its status read back, and an MCP session through it from this machine."""
    with tempfile.TemporaryDirectory(prefix="mcpops-") as scratch:
        return _prove(fleet, plan, Path(scratch), timeout_s)


def _prove(fleet: Fleet, plan: RollbackPlan, scratch: Path, timeout_s: float) -> list[Result]:
    moves = {move.host: move for move in plan.activation.moves if move.host in fleet.channels}

    def one(host: str) -> list[Result]:
        try:
            answer = fleet.call(host, ("status",), CALL_S)
            front = read_front(host, answer.output)
        except (Unreachable, ValueError) as error:
            return [Result(host=host, task="read back", outcome=Outcome.UNKNOWN, message=str(error))]
        served = _served(front, fleet.channels[host].target, moves[host], scratch, timeout_s)
        return [_read_back(front, plan), served]

    return [row for rows in in_parallel(one, list(moves)).values() for row in rows]


def _read_back(front: FrontState, plan: RollbackPlan) -> Result:
    saw = f"{front.release} in {front.active}, generation {front.generation}, {front.phase}"
    if not front.proxy_up:
        outcome, saw = Outcome.UNKNOWN, f"on disk: {saw}; the proxy is down, it reads that when it starts"
    elif front.release != plan.release:
        outcome = Outcome.FAILED
    elif not front.in_sync or front.phase != STEADY:
        outcome, saw = Outcome.FAILED, f"{saw}; the proxy's memory and its disk differ: mcpops rollback --sync"
    else:
        outcome = Outcome.OK
    return Result(host=front.host, task="read back", outcome=outcome, message=saw)


def _served(front: FrontState, target: Target, move: Move, scratch: Path, timeout_s: float) -> Result:
    """Be a client of the front once; the header that the proxy adds says which slot answered."""
    try:
        saw = probe(endpoint(front, target, scratch, timeout_s))
    except (HostError, OSError) as error:
        said = f"{error.message}: {error.detail}" if isinstance(error, HostError) else str(error)
        return Result(host=front.host, task="probe", outcome=Outcome.UNKNOWN, message=said)
    good = saw["slot"] == move.slot
    message = f"slot {saw['slot']} answered, {len(saw['tools'])} tools, {saw['took_ms']} ms"
    return Result(host=front.host, task="probe", outcome=Outcome.OK if good else Outcome.FAILED, message=message)


def endpoint(front: FrontState, target: Target, scratch: Path, timeout_s: float) -> Endpoint:
    """Return where this machine reaches the front: its own URL, and its host's address where that is a loopback.

    The CA certificate came over the channel, and is written to the directory `scratch` for the TLS library.
    """
    said = front.front
    parts = urlsplit(str(said["url"]))
    if target.connection == "ssh" and parts.hostname in LOOPBACK:
        address = f"[{target.address}]" if ":" in target.address else target.address
        parts = parts._replace(netloc=f"{address}:{parts.port}" if parts.port else address)
    cafile = None
    if said.get("ca_pem"):
        cafile = scratch / f"{front.host}.pem"
        cafile.write_text(str(said["ca_pem"]), encoding="utf-8")
    url = urlunsplit(parts._replace(path=str(said.get("mcp_path") or "/mcp")))
    return Endpoint(url, str(cafile) if cafile else None, said.get("server_name"), timeout_s=timeout_s)
