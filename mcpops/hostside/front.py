"""The front: which slot gets the requests, which sessions are answered, and what the guard saw.

status needs no fence; everything that changes something needs --run and --fence (see state.require_fence).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from mcpops.hostside import guard
from mcpops.hostside.activation import Order, activate, push_active
from mcpops.hostside.maps import CLOSED, OPEN, end_preview, replace_map, set_slot
from mcpops.hostside.proxy import Proxy, ProxyDown, ProxyRefused
from mcpops.hostside.routing import BAKE, describe, not_staged, put_in_force, read_routing, settled, staged_release
from mcpops.hostside.service import MAPS, Service, load_service
from mcpops.hostside.state import (
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    NO_SLOT,
    SLOTS,
    HostError,
    Outcome,
    keep_reserve,
    locked,
    read_map,
    require_fence,
)

if TYPE_CHECKING:
    import argparse

    from mcpops.hostside.state import Context

DRAIN_POLL_S = 0.1
VERDICT_POLL_S = 0.02
TOKEN_BYTES = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs of `front`."""
    verbs = parser.add_subparsers(dest="verb", required=True)
    act = verbs.add_parser("activate", help="send new requests to a slot (compare-and-set)")
    act.add_argument("--slot", choices=(*SLOTS, NO_SLOT), required=True, help="none: nothing serves (503)")
    act.add_argument("--generation", type=int, required=True, help="the generation this becomes")
    act.add_argument("--expect", type=int, required=True, help="the generation that must be in force before")
    act.add_argument("--release", help="the name of the release that the slot must hold")
    act.add_argument("--guard-s", type=float, default=0.0, help="watch the slot for so long and go back when it fails")
    act.add_argument("--healthy-wait-s", type=float, default=2.0, help="how long the proxy may take to see it healthy")
    act.add_argument("--force", action="store_true", help="also when the proxy sees the slot down")
    act.add_argument("--reason", default="", help="for the history")
    act.set_defaults(act=_activate)
    verbs.add_parser("sync", help="bring the running proxy to what the files say").set_defaults(act=_sync)
    settle = verbs.add_parser("settle", help="end the bake phase")
    settle.add_argument("--generation", type=int, required=True)
    settle.set_defaults(act=_settle)
    verdict = verbs.add_parser("verdict", help="what the guard of a generation found")
    verdict.add_argument("--generation", type=int, required=True)
    verdict.add_argument("--wait-s", type=float, default=0.0)
    verdict.set_defaults(act=_verdict)
    for verb, state in (("open", OPEN), ("close", CLOSED)):
        parser_of = verbs.add_parser(verb, help=f"sessions of a slot: {state}")
        parser_of.add_argument("slot", choices=SLOTS)
        parser_of.set_defaults(act=_set_slot, state=state)
    preview = verbs.add_parser("preview", help="make a token that leads to a slot, or clear all")
    preview.add_argument("slot", choices=SLOTS, nargs="?")
    preview.add_argument("--clear", action="store_true")
    preview.set_defaults(act=_preview)
    drain = verbs.add_parser("drain", help="wait until nobody uses a slot")
    drain.add_argument("slot", choices=SLOTS)
    drain.add_argument("--deadline-s", type=float, required=True)
    drain.add_argument("--idle-s", type=float, help="a session not heard of for so long counts as gone")
    drain.set_defaults(act=_drain)


def run(args: argparse.Namespace, context: Context) -> Outcome:
    """Dispatch to the verb."""
    service = load_service(context)
    try:
        outcome: Outcome = args.act(args, context, service)
    except ProxyDown as error:
        raise HostError(
            "proxy_down",
            f"the front of {service.name} does not run",
            detail=str(error),
            hint="start it, then `front sync`",
            exit_code=EXIT_UNKNOWN,
        ) from error
    except ProxyRefused as error:
        raise HostError(
            "proxy_refused", "the front did not take a command", detail=str(error), exit_code=EXIT_UNKNOWN
        ) from error
    return outcome


def _activate(args: argparse.Namespace, context: Context, service: Service) -> Outcome:
    """Activate a slot."""
    order = Order(
        slot=args.slot,
        generation=args.generation,
        expect=args.expect,
        release=args.release,
        guard_s=args.guard_s,
        healthy_wait_s=args.healthy_wait_s,
        force=args.force,
        reason=args.reason,
    )
    return activate(context, service, order)


def _sync(args: argparse.Namespace, context: Context, service: Service) -> Outcome:
    """Push every map whose running copy differs from its file; end a proof that another run began."""
    del args
    proxy = Proxy(service.admin_socket)
    with locked(context):
        require_fence(context)
        if not context.check:
            keep_reserve(context)
            end_preview(context, service)
        # All files are read and understood before the proxy is told of any.
        routing = read_routing(service)
        wanted = {name: read_map(service.maps[name]) for name in MAPS}
        pushed = []
        for name, want in wanted.items():
            if proxy.read_map(service.maps[name]) != want:
                pushed.append(name)
                if not context.check:
                    proxy.write_map(service.maps[name], want)
        return Outcome(bool(pushed), {"pushed": pushed, **describe(context, routing)})


def _settle(args: argparse.Namespace, context: Context, service: Service) -> Outcome:
    """Turn the bake phase into the steady one."""
    with locked(context):
        require_fence(context)
        routing = read_routing(service)
        if routing.generation != args.generation:
            raise HostError(
                "stale",
                f"generation {args.generation} is not in force, {routing.generation} is",
                exit_code=EXIT_REFUSED,
                data={"there": describe(context, routing)},
            )
        if routing.phase != BAKE:
            return Outcome(changed=False, data={"phase": routing.phase})
        new = settled(routing)
        if not context.check:
            put_in_force(context, service, routing, new, reason="settle", tell_proxy=push_active(service))
        return Outcome(changed=True, data={"phase": new.phase})


def _verdict(args: argparse.Namespace, context: Context, service: Service) -> Outcome:
    """Return the guard's verdict, waiting for it up to --wait-s. No lock is held meanwhile."""
    del service
    end = time.monotonic() + args.wait_s
    while True:
        verdict = guard.read_verdict(context, args.generation)
        if verdict["verdict"] != "running" or time.monotonic() >= end:
            return Outcome(changed=False, data=verdict)
        time.sleep(VERDICT_POLL_S)


def _set_slot(args: argparse.Namespace, context: Context, service: Service) -> Outcome:
    """Open or close a slot for its own sessions."""
    with locked(context):
        require_fence(context)
        if args.state == CLOSED and read_routing(service).slot == args.slot:
            raise HostError(
                "active_slot",
                f"{args.slot} is active: closing it would refuse every session that begins now",
                hint="activate the other slot first",
                exit_code=EXIT_REFUSED,
            )
        changed = set_slot(context, service, args.slot, args.state)
        return Outcome(changed, {"slot": args.slot, "state": args.state})


def _preview(args: argparse.Namespace, context: Context, service: Service) -> Outcome:
    """Make the only preview token, or clear it."""
    if bool(args.slot) == args.clear:
        raise HostError("usage", "front preview needs a slot or --clear", exit_code=2)
    with locked(context):
        require_fence(context)
        if args.clear:
            return Outcome(replace_map(context, service, "preview", {}), {"token": None})
        if staged_release(context, args.slot) is None:
            raise not_staged(args.slot)
        token = os.urandom(TOKEN_BYTES).hex()
        replace_map(context, service, "preview", {token: args.slot})
        return Outcome(changed=True, data={"token": None if context.check else token, "slot": args.slot})


def _drain(args: argparse.Namespace, context: Context, service: Service) -> Outcome:
    """Wait until no session of a slot was heard of lately and nothing is open on it, or until the deadline.

    What streams an old worker of the proxy still carries after a reload nobody counts: while there is one, the slot is
    not idle.
    """
    del context
    proxy, begin = Proxy(service.admin_socket), time.monotonic()
    idle_s = service.session_idle_s if args.idle_s is None else min(args.idle_s, service.session_idle_s)
    remaining_above_ms = int((service.session_idle_s - idle_s) * 1000) if idle_s < service.session_idle_s else -1
    before: int | None = None
    while True:
        used = {**usage(proxy, args.slot, remaining_above_ms), "old_workers": len(proxy.old_workers())}
        before = used["sessions"] if before is None else before
        took_s = time.monotonic() - begin
        idle = not any(used.values())
        if idle or took_s >= args.deadline_s:
            why = "idle" if idle else "deadline"
            return Outcome(
                changed=False, data={"why": why, "sessions_before": before, **used, "took_s": round(took_s, 3)}
            )
        time.sleep(min(DRAIN_POLL_S, max(0.0, args.deadline_s - took_s)))


def usage(proxy: Proxy, slot: str, remaining_above_ms: int = -1) -> dict[str, Any]:
    """Return how a slot is used: sessions heard of, requests open in sessions (streams), all requests open."""
    servers = proxy.servers()
    open_in = {kind: servers[f"{kind}_{slot}", slot].open_count for kind in ("pin", "bake", "slot")}
    sessions = proxy.sessions(slot, remaining_above_ms)
    return {"sessions": sessions, "streams": open_in["pin"], "in_flight": sum(open_in.values())}
