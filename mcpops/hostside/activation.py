"""Activation: new requests go to another slot, as a compare-and-set on the generation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcpops.hostside import guard
from mcpops.hostside.maps import end_preview
from mcpops.hostside.proxy import Proxy, ProxyDown, ProxyRefused, ServerRow
from mcpops.hostside.routing import (
    BAKE,
    STEADY,
    Routing,
    came_from,
    describe,
    not_staged,
    put_in_force,
    read_routing,
)
from mcpops.hostside.state import (
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    NO_SLOT,
    HostError,
    Outcome,
    failpoint,
    locked,
    read_json,
    require_fence,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcpops.hostside.service import Service
    from mcpops.hostside.state import Context

HEALTHY_POLL_S = 0.02


@dataclass(frozen=True)
class Order:
    """What is asked: this slot as this generation, if that generation is in force now.

    With a `guard_s` above 0 the new generation begins in the bake phase, watched by the guard for that long. With a
    `release` the slot must hold it.
    """

    slot: str
    generation: int
    expect: int
    release: str | None = None
    guard_s: float = 0.0
    healthy_wait_s: float = 0.0
    force: bool = False
    reason: str = ""


def activate(context: Context, service: Service, order: Order) -> Outcome:
    """Put an order into force: files first, then the running proxy, then read back.

    A repeat answers that it is already so (and tells a proxy that does not know yet). Raises HostError `stale`,
    `not_staged`, `stopped`, `unhealthy` (exit 9; nothing changed), `fenced` (8), `disk_full` (1; the old state is in
    force), `proxy_down`, `proxy_refused` (3; on disk, the proxy takes it over at its start or by `front sync`).
    """
    if order.generation <= order.expect:
        raise HostError("usage", "--generation must be greater than --expect", exit_code=EXIT_USAGE)
    if not order.force and order.slot != NO_SLOT:
        _wait_until_healthy(service, order)
    begin = time.monotonic()
    with locked(context):
        require_fence(context)
        old = read_routing(service)
        if (old.generation, old.slot) == (order.generation, order.slot):
            return _repeat(context, service, old)
        _compare(context, old, order)
        new = Routing(service.name, order.slot, order.generation, BAKE if order.guard_s > 0 else STEADY)
        told = {"from": describe(context, old), "to": describe(context, new)}
        if context.check:
            return Outcome(changed=True, data=told)
        end_preview(context, service)
        switched_at_ns = _switch(context, service, old, new, order)
        switch_ms = round((time.monotonic() - begin) * 1000, 3)
        return Outcome(changed=True, data={**told, "switched_at_ns": switched_at_ns, "switch_ms": switch_ms})


def _compare(context: Context, old: Routing, order: Order) -> None:
    """Refuse an order that was made for another state than this one, or for a slot that cannot serve."""
    if old.generation != order.expect:
        raise HostError(
            "stale",
            f"generation {old.generation} is in force, not {order.expect}",
            detail=f"{old.slot} is active",
            hint="read the status again and decide anew",
            exit_code=EXIT_REFUSED,
            data={"there": describe(context, old)},
        )
    if order.slot == NO_SLOT:
        return
    staged = read_json(context.path("slots", f"{order.slot}.json"))
    if staged is None:
        raise not_staged(order.slot)
    holds = staged["release"]["name"]
    if order.release not in (None, holds):
        raise HostError(
            "stale",
            f"slot {order.slot} holds {holds}, not {order.release}",
            hint="another run staged there; read the status again and decide anew",
            exit_code=EXIT_REFUSED,
            data={"there": describe(context, old)},
        )
    if staged.get("stopped"):
        raise HostError(
            "stopped",
            f"{holds} was stopped in slot {order.slot}",
            hint=f"slot start {order.slot} first",
            exit_code=EXIT_REFUSED,
        )


def _wait_until_healthy(service: Service, order: Order) -> None:
    """Wait until the proxy sees the slot up, or refuse. A proxy that does not run cannot be asked.

    Its backends for the bake phase and for afterwards check the slot each at their own time. The one for the bake phase
    would send requests to the slot that this order leads away from; the other one, which has no backup, answers 503.
    """
    proxy, end = Proxy(service.admin_socket), time.monotonic() + order.healthy_wait_s
    while True:
        try:
            servers = proxy.servers()
        except (ProxyDown, ProxyRefused):
            return
        rows = [servers[f"{kind}_{order.slot}", order.slot] for kind in ("bake", "slot")]
        unproved = [row for row in rows if row.down or not row.checked]
        if not unproved:
            return
        if time.monotonic() >= end:
            raise HostError(
                "unhealthy",
                f"the front does not see {order.slot} up: its requests would fail or go to the other slot",
                detail=f"{_seen(unproved[0])} in {unproved[0].backend} for {order.healthy_wait_s:g} s",
                hint=f"see slot logs {order.slot}; --force switches all the same",
                exit_code=EXIT_REFUSED,
            )
        time.sleep(HEALTHY_POLL_S)


def _seen(row: ServerRow) -> str:
    """Return what the proxy knows of a server."""
    return f"status {row.status}" if row.checked else "no health check has ended"


def _repeat(context: Context, service: Service, routing: Routing) -> Outcome:
    """Answer an order that is in force already; tell the proxy if it does not know."""
    proxy, path = Proxy(service.admin_socket), service.maps["active"]
    behind = proxy.read_map(path) != routing.as_map()
    if behind and not context.check:
        proxy.write_map(path, routing.as_map())
    there = describe(context, routing)
    return Outcome(behind, {"from": there, "to": there, "switched_at_ns": time.time_ns(), "switch_ms": 0.0})


def _switch(context: Context, service: Service, old: Routing, new: Routing, order: Order) -> int:
    """Write, start the guard, tell the proxy; return when the proxy had it (time.time_ns)."""

    def start_guard() -> None:
        if order.guard_s > 0:
            back = old.slot if old.slot != new.slot else came_from(context, old)
            guard.start(guard.Watch(context, service, back, new.slot, new.generation, order.guard_s))
            failpoint("guard-started")

    try:
        put_in_force(
            context,
            service,
            old,
            new,
            reason=order.reason,
            before_switch=start_guard,
            tell_proxy=push_active(service),
        )
    except (ProxyDown, ProxyRefused) as error:
        down = isinstance(error, ProxyDown)
        raise HostError(
            "proxy_down" if down else "proxy_refused",
            f"{new.slot} is on disk as generation {new.generation}, but the front was not told",
            detail=str(error),
            hint="start the front and run `front sync`",
            exit_code=EXIT_UNKNOWN,
            data={"changed": True, "from": describe(context, old), "to": describe(context, new)},
        ) from error
    return time.time_ns()


def push_active(service: Service) -> Callable[[Routing], None]:
    """Return what tells the running proxy a routing and reads it back."""

    def tell(routing: Routing) -> None:
        Proxy(service.admin_socket).write_map(service.maps["active"], routing.as_map())

    return tell
