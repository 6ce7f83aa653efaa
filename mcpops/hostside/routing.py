"""What is in force: the active slot, its generation and its phase, on disk and in the running proxy.

The map file is the truth (a restarted proxy reads it); the running copy follows. The history has one line for each
activation, written before the file is put in place: a line whose generation never came into force is told apart by
the chain of generations, see `happened`.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mcpops.hostside.state import (
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    NO_SLOT,
    SLOTS,
    HostError,
    failpoint,
    map_bytes,
    put_in_place,
    read_json,
    read_map,
    spend_reserve,
    stage_file,
    write_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcpops.hostside.service import Service
    from mcpops.hostside.state import Context

STEADY = "steady"
BAKE = "bake"


@dataclass(frozen=True)
class Routing:
    """The content of active.map."""

    service: str
    slot: str
    generation: int
    phase: str

    def as_map(self) -> dict[str, str]:
        """Return the map's lines."""
        return {
            self.service: self.slot,
            f"{self.service}.generation": str(self.generation),
            f"{self.service}.phase": self.phase,
        }


def parse_routing(service: str, content: dict[str, str]) -> Routing:
    """Return the routing that a map holds. Raises HostError `unreadable` (exit 3) for anything but a valid one."""
    try:
        routing = Routing(service, content[service], int(content[f"{service}.generation"]), content[f"{service}.phase"])
        if routing.slot not in (*SLOTS, NO_SLOT) or routing.phase not in (STEADY, BAKE):
            raise ValueError(f"{routing.slot}, {routing.phase}")
    except (KeyError, ValueError) as error:
        raise HostError(
            "unreadable",
            f"the active map of {service} makes no sense",
            detail=f"{error!r} in {content}",
            hint="the last line of history.jsonl tells what should be there",
            exit_code=EXIT_UNKNOWN,
        ) from error
    return routing


def read_routing(service: Service) -> Routing:
    """Return what the file says is in force."""
    return parse_routing(service.name, read_map(service.maps["active"]))


def staged_release(context: Context, slot: str) -> str | None:
    """Return the name of the release that is staged in a slot, None when there is none."""
    staged = read_json(context.path("slots", f"{slot}.json"))
    return str(staged["release"]["name"]) if staged else None


def not_staged(slot: str) -> HostError:
    """Return the error for a slot that holds no release."""
    return HostError(
        "not_staged", f"no release is staged in {slot}", hint=f"slot stage {slot} first", exit_code=EXIT_REFUSED
    )


def describe(context: Context, routing: Routing) -> dict[str, Any]:
    """Return slot, release and generation for an answer or a history line."""
    release = staged_release(context, routing.slot) if routing.slot in SLOTS else None
    return {"slot": routing.slot, "release": release, "generation": routing.generation}


def put_in_force(
    context: Context,
    service: Service,
    old: Routing,
    new: Routing,
    *,
    reason: str,
    before_switch: Callable[[], None] = lambda: None,
    tell_proxy: Callable[[Routing], None],
) -> None:
    """Write a new routing to disk and then tell the proxy. Call it under the lock, with `old` read under it.

    Everything that needs space on disk happens before the file is renamed: a full disk leaves the old state in force.
    Raises HostError `disk_full`, `not_written`, and whatever `tell_proxy` raises (the new state is on disk then).
    """
    path = service.maps["active"]
    temporary = stage_file(path, map_bytes(new.as_map()))
    if (old.slot, old.generation) != (new.slot, new.generation):  # else the bake phase ends, and nothing else
        try:
            append_history(context, history_line(context, old, new, reason))
        except HostError:
            with suppress(OSError):
                temporary.unlink()
            raise
    failpoint("before-rename")
    put_in_place(temporary, path)
    failpoint("after-rename")
    before_switch()
    tell_proxy(new)
    failpoint("after-runtime")


def history_line(context: Context, old: Routing, new: Routing, reason: str) -> dict[str, Any]:
    """Return the history's line for one activation."""
    return {
        "generation": new.generation,
        "from": describe(context, old),
        "to": describe(context, new),
        "release": describe(context, new)["release"],
        "run": context.run,
        "fence": context.fence,
        "at": context.timestamp(),
        "reason": reason,
    }


def append_history(context: Context, line: dict[str, Any]) -> None:
    """Append one fsynced line; take back what was written of it when it cannot be completed."""
    path, data = context.path("history.jsonl"), json.dumps(line, sort_keys=True).encode() + b"\n"
    try:
        _append(path, data)
    except OSError as error:
        if not spend_reserve(path, error):
            raise write_error(path, error) from error
    else:
        return
    try:
        _append(path, data)
    except OSError as error:
        raise write_error(path, error) from error


def _append(path: Path, data: bytes) -> None:
    """Append all of it or nothing; raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        length = os.fstat(descriptor).st_size
        # A crash may have left a line without its end: what is appended must not become a part of it.
        torn = length > 0 and os.pread(descriptor, 1, length - 1) != b"\n"
        try:
            _write_all(descriptor, b"\n" * torn + data)
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, length)
            raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes: a full disk may take a part of them first and refuse the rest."""
    while data:
        data = data[os.write(descriptor, data) :]


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the history's lines, oldest first; a line cut short by a crash is left out."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    lines = []
    for line in text.splitlines():
        with suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def happened(lines: list[dict[str, Any]], generation: int) -> list[dict[str, Any]]:
    """Return the activations that led to `generation`, newest first.

    A crash before the rename leaves a line that nothing followed from. Going back from what is in force, each line
    names the generation it came from, and the others are passed over.
    """
    chain = []
    for line in reversed(lines):
        if line["to"]["generation"] == generation:
            chain.append(line)
            generation = line["from"]["generation"]
    return chain


def came_from(context: Context, routing: Routing) -> str:
    """Return the slot that was active before the slot of `routing` was, `none` when nobody knows.

    Not always the one of the activation before: an activation that is repeated after a crash gives a slot that is
    active already a new generation.
    """
    for line in happened(read_history(context.path("history.jsonl")), routing.generation):
        if line["from"]["slot"] != routing.slot:
            return str(line["from"]["slot"])
    return NO_SLOT


def settled(routing: Routing) -> Routing:
    """Return the same routing in the steady phase."""
    return replace(routing, phase=STEADY)
