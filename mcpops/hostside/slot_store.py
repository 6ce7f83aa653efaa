"""What is written down about slots, and the lock of each.

slots/<slot>.json          what is staged: {"release", "staged_at", "run", "verified_at", "stopped"}; absent meanwhile
slots/<slot>.before.json   what the last stage displaced: {"record", "running", "run", "staging"}
slots/<slot>/<key>/        the files of a release (the staged one, and the displaced one until the next stage)
slots/<slot>.filling.lock  held by who installs into the slot or deletes from it; may take minutes
slots/<slot>.lock          held by who starts or stops what is in it; taken after the one above
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcpops.hostside.drivers import Driver, Place
from mcpops.hostside.service import Service, load_service
from mcpops.hostside.state import (
    EXIT_BUSY,
    EXIT_REFUSED,
    EXIT_USAGE,
    Context,
    HostError,
    locked,
    read_json,
    read_map,
    require_fence,
    write_error,
    write_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

SLOT_LOCK_DEADLINE_S = 60.0
FILLING_LOCK_DEADLINE_S = 300.0  # as long as a pull may take


@dataclass(frozen=True)
class SlotStore:
    """The slots of a state directory: the service's facts, its driver, its records."""

    context: Context
    service: Service
    driver: Driver

    @classmethod
    def read(cls, context: Context) -> SlotStore:
        """Read service.json; raises HostError `not_set_up` or `bad_service`."""
        service = load_service(context)
        return cls(context, service, driver_for(service.facts))

    def place(self, slot: str) -> Place:
        """Return where a slot is."""
        where = self.service.slots[slot]
        return Place(self.service.name, slot, where.address, where.port, self.context.path("slots", slot))

    def staged(self, slot: str) -> dict[str, Any] | None:
        """Return the record of what is staged in a slot."""
        record: dict[str, Any] | None = read_json(self._record(slot))
        return record

    def before(self, slot: str) -> dict[str, Any] | None:
        """Return the record of what the last stage displaced."""
        record: dict[str, Any] | None = read_json(self._before(slot))
        return record

    def put_staged(self, slot: str, record: Mapping[str, Any] | None) -> None:
        """Write or delete a slot's record."""
        _put(self._record(slot), record)

    def put_before(self, slot: str, record: Mapping[str, Any] | None) -> None:
        """Write or delete the record of what was displaced."""
        _put(self._before(slot), record)

    def require_idle(self, slot: str) -> None:
        """Raise HostError `active` (exit 9) for the slot that serves the clients."""
        if read_map(self.service.maps["active"]).get(self.service.name) == slot:
            raise HostError(
                "active",
                f"slot {slot} is active: it serves the clients of {self.service.name}",
                hint="cut over to the other slot first",
                exit_code=EXIT_REFUSED,
            )

    def claim(self) -> None:
        """Take the fence, before any lock: whoever holds one with a lower fence is refused at its next look.

        Raises HostError `fenced`.
        """
        with locked(self.context):
            require_fence(self.context)

    def filling_lock(self, slot: str) -> AbstractContextManager[None]:
        """Hold the lock of who fills a slot; raises HostError `locked` (exit 4)."""
        return self._locked(slot, ".filling", FILLING_LOCK_DEADLINE_S)

    def slot_lock(self, slot: str) -> AbstractContextManager[None]:
        """Hold the lock of who starts and stops what is in a slot; raises HostError `locked` (exit 4)."""
        return self._locked(slot, "", SLOT_LOCK_DEADLINE_S)

    @contextmanager
    def _locked(self, slot: str, kind: str, deadline_s: float) -> Iterator[None]:
        path = self.context.path("slots", f"{slot}{kind}.lock")
        try:
            path.parent.mkdir(exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise write_error(path, error) from error
        try:
            deadline = time.monotonic() + deadline_s
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    message = f"another command has worked on slot {slot} for {deadline_s:g} s"
                    raise HostError("locked", message, hint=f"fuser -v {path}", exit_code=EXIT_BUSY)
                time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    def _record(self, slot: str) -> Path:
        """Return the path of a slot's record."""
        return self.context.path("slots", f"{slot}.json")

    def _before(self, slot: str) -> Path:
        """Return the path of the record of what was displaced."""
        return self.context.path("slots", f"{slot}.before.json")


def _put(path: Path, record: Mapping[str, Any] | None) -> None:
    """Write or delete a record."""
    if record is not None:
        write_json(path, record)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def _try_lock(descriptor: int) -> bool:
    """Take a lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def driver_for(facts: Mapping[str, Any]) -> Driver:
    """Return the driver that service.json names; raises HostError `bad_service`."""
    kind = facts.get("driver")
    if kind == "process":
        from mcpops.hostside.process_driver import ProcessDriver  # noqa: PLC0415 - only the one in use is compiled

        return ProcessDriver.from_facts(facts["process"])
    if kind == "container":
        from mcpops.hostside.container_driver import ContainerDriver  # noqa: PLC0415

        return ContainerDriver.from_facts(facts["container"])
    raise HostError(
        "bad_service",
        f"service.json names the driver {kind!r}",
        hint="role `front` writes it; drivers are: process, container",
        exit_code=EXIT_USAGE,
    )
