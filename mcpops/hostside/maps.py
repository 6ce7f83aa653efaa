"""The maps of a front beside the active one: which slots answer their sessions, and the one preview token.

Files first, then the running proxy, under the lock of the state directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpops.hostside.proxy import Proxy, ProxyDown, ProxyRefused
from mcpops.hostside.state import EXIT_UNKNOWN, HostError, map_bytes, read_map, write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcpops.hostside.service import Service
    from mcpops.hostside.state import Context

OPEN, CLOSED = "open", "closed"


def replace_map(context: Context, service: Service, name: str, want: Mapping[str, str]) -> bool:
    """Write a map to disk and to the proxy; return whether either differed. Raises ProxyDown, ProxyRefused."""
    path, proxy = service.maps[name], Proxy(service.admin_socket)
    on_disk = read_map(path) == want
    if context.check:
        return not on_disk
    if not on_disk:
        write_atomic(path, map_bytes(want))
    running = proxy.read_map(path) == want
    if not running:
        proxy.write_map(path, want)
    return not (on_disk and running)


def set_slot(context: Context, service: Service, slot: str, state: str) -> bool:
    """Open or close a slot for its own sessions; return whether that changed anything."""
    return replace_map(context, service, "slots", {**read_map(service.maps["slots"]), slot: state})


def close_off(context: Context, service: Service, slot: str) -> None:
    """Let no client into a slot whose content is about to change: its sessions get 404, no token leads there.

    A proxy that is down reads the files when it starts. Raises HostError `proxy_refused`.
    """
    previews = {token: leads_to for token, leads_to in read_map(service.maps["preview"]).items() if leads_to != slot}
    _tell(context, service, "slots", {**read_map(service.maps["slots"]), slot: CLOSED})
    _tell(context, service, "preview", previews)


def end_preview(context: Context, service: Service) -> None:
    """Let no token lead anywhere: the proof that it was made for is over, or its run has lost its right."""
    if read_map(service.maps["preview"]):
        _tell(context, service, "preview", {})


def _tell(context: Context, service: Service, name: str, want: Mapping[str, str]) -> None:
    """Replace a map, also while the proxy is down."""
    try:
        replace_map(context, service, name, want)
    except ProxyDown:
        return
    except ProxyRefused as error:
        raise HostError(
            "proxy_refused", "the front did not take a command", detail=str(error), exit_code=EXIT_UNKNOWN
        ) from error
