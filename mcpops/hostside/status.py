"""Everything about the service on this host. Needs no fence, and works while the proxy is down."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpops.hostside import guard
from mcpops.hostside.front import usage
from mcpops.hostside.maps import CLOSED
from mcpops.hostside.proxy import Proxy, ProxyDown, ProxyRefused
from mcpops.hostside.routing import Routing, happened, read_history, read_routing, staged_release
from mcpops.hostside.service import MAPS, load_service
from mcpops.hostside.state import NO_SLOT, SLOTS, Outcome, locked, read_json, read_map

if TYPE_CHECKING:
    import argparse

    from mcpops.hostside.service import Address, Service
    from mcpops.hostside.state import Context

# A slot listens on this host: an answer takes microseconds.
CONNECT_TIMEOUT_S = 0.3
SHOWN_ACTIVATIONS = 5
WAIT_POLL_S = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--wait-s", type=float, default=0.0, help="how long the proxy may take to answer")


def run(args: argparse.Namespace, context: Context) -> Outcome:
    """Report."""
    service = load_service(context)
    proxy = Proxy(service.admin_socket)
    _wait_for(proxy, args.wait_s)
    with locked(context):
        routing = read_routing(service)
        report = {**_in_force(context, service, routing), **_proxy(service, proxy)}
    report["slots"] = {slot: _slot(context, service, proxy, slot) for slot in SLOTS}
    return Outcome(changed=False, data=report)


def _wait_for(proxy: Proxy, wait_s: float) -> None:
    """Wait until the proxy answers, or until the time is over: the report says which."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        try:
            proxy.say("show version")
        except ProxyDown:
            time.sleep(WAIT_POLL_S)
        else:
            return


def _in_force(context: Context, service: Service, routing: Routing) -> dict[str, Any]:
    """Report what the files say."""
    past = happened(read_history(context.path("history.jsonl")), routing.generation)
    return {
        "service": service.name,
        "front": _front(service),
        "active": routing.slot,
        "release": None if routing.slot == NO_SLOT else staged_release(context, routing.slot),
        "since": past[0]["at"] if past else None,
        "generation": routing.generation,
        "phase": routing.phase,
        "fence": read_json(context.path("fence"), default={"fence": 0, "run": None}),
        "guard": guard.read_verdict(context) if context.path("guard.json").exists() else None,
        "releases": _releases(context),
        "activations": past[:SHOWN_ACTIVATIONS],
    }


def _front(service: Service) -> dict[str, Any]:
    """Report how a client reaches the front, and the CA that it must trust: a control node proves a switch by it."""
    report = {"url": service.front_url, "server_name": service.server_name, "mcp_path": service.mcp_path}
    ca_pem = None
    with suppress(OSError, ValueError):
        ca_pem = Path(service.cafile).read_text() if service.cafile else None
    return {**report, "ca_pem": ca_pem}


def _releases(context: Context) -> list[dict[str, Any]]:
    """Report the releases this host knows, by name."""
    paths = sorted(context.path("releases").glob("*.json"))
    manifests = [manifest for manifest in map(read_json, paths) if manifest]
    return [{key: manifest.get(key) for key in ("name", "digest", "verified_at")} for manifest in manifests]


def _proxy(service: Service, proxy: Proxy) -> dict[str, Any]:
    """Report whether the proxy runs, and whether it holds what the files say (None: it cannot be asked)."""
    try:
        differing = [name for name in MAPS if proxy.read_map(service.maps[name]) != read_map(service.maps[name])]
    except ProxyDown as error:
        return {"proxy": False, "in_sync": None, "proxy_error": str(error)}
    except ProxyRefused as error:
        return {"proxy": True, "in_sync": False, "proxy_error": str(error)}
    return {"proxy": True, "in_sync": not differing, "proxy_error": None}


def _slot(context: Context, service: Service, proxy: Proxy, slot: str) -> dict[str, Any]:
    """Report one slot. What only the proxy knows is None while it is down, or has only just started."""
    staged = read_json(context.path("slots", f"{slot}.json")) or {}
    release = staged.get("release") or {}
    report: dict[str, Any] = {
        "release": release.get("name"),
        "digest": release.get("digest"),
        "verified_at": staged.get("verified_at"),
        "state": read_map(service.maps["slots"]).get(slot, CLOSED),
        "running": _listens(service.slots[slot]) and not staged.get("stopped"),
        "healthy": None,
        "sessions": None,
        "streams": None,
        "in_flight": None,
    }
    with suppress(ProxyDown, ProxyRefused, KeyError):
        report.update(usage(proxy, slot))
        row = proxy.servers()[f"slot_{slot}", slot]
        report["healthy"] = not row.down if row.checked else None
    return report


def _listens(where: Address) -> bool:
    """Return whether anybody accepts connections there."""
    try:
        socket.create_connection((where.address, where.port), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
