"""Whole reads and writes of a session, and the end of a process with all below it.

Sent to hosts: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress

_TERM_S = 1.0  # a module's time to end after SIGTERM, before SIGKILL


class Gone(Exception):
    """The other side closed the session."""


def read(size: int) -> bytearray:
    """Return exactly `size` bytes of standard input; raises Gone at its end."""
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        count = os.readv(0, [view[got:]])
        if not count:
            raise Gone
        got += count
    return data


def skip(size: int, buffer: bytearray) -> None:
    """Read over `size` bytes of standard input and keep none of them."""
    while size:
        count = os.readv(0, [memoryview(buffer)[:size]])
        if not count:
            raise Gone
        size -= count
    buffer[:] = bytes(len(buffer))


def write(handle: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def end_tree(top: int) -> None:
    """End a process and all below it: SIGTERM, and a second later SIGKILL for what is left.

    By handles and not numbers: a number may be another process's by then.
    """
    handles = []
    for pid in _below(top):
        with suppress(OSError):
            handles.append(os.pidfd_open(pid))
    _signal(handles, signal.SIGTERM)
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    left, end_s = len(handles), time.monotonic() + _TERM_S
    while left and time.monotonic() < end_s:
        for handle, _ in poll.poll(max(0.0, end_s - time.monotonic()) * 1000):
            poll.unregister(handle)
            left -= 1
    _signal(handles, signal.SIGKILL)
    for handle in handles:
        os.close(handle)


def _signal(handles: list[int], number: int) -> None:
    for handle in handles:
        with suppress(OSError):  # it ended meanwhile
            signal.pidfd_send_signal(handle, number)


def _below(top: int) -> list[int]:
    """Return a process and all below it, parents first."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, IndexError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                children.setdefault(int(file.read().rpartition(")")[2].split()[1]), []).append(int(name))
    found = [top]
    for pid in found:
        found += children.get(pid, ())
    return found
