"""Processes of this machine, from /proc: who descends from whom, and who carries a marker in its environment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

# In the environment of a daemon that a run starts on purpose, and which must outlive it (supervisord of the embedded
# default); such an environment carries no marker of the run.
DAEMON = "MCPOPS_DAEMON"

_PROC = Path("/proc")
_PARENT_FIELD = 1  # in /proc/PID/stat behind the closing parenthesis of the name: state, ppid, …
_STATE_FIELD = 0


def pids() -> Iterator[int]:
    """Yield the ids of all processes that are there now."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie has ended."""
    fields = _stat(pid)
    return fields is not None and fields[_STATE_FIELD] != "Z"


def descendants(root: int) -> list[int]:
    """Return the living processes below `root`, nearest first, without `root`."""
    children: dict[int, list[int]] = {}
    for pid in pids():
        fields = _stat(pid)
        if fields is not None and fields[_STATE_FIELD] != "Z":
            children.setdefault(int(fields[_PARENT_FIELD]), []).append(pid)
    found: list[int] = []
    level = children.get(root, [])
    while level:
        found += level
        level = [child for pid in level for child in children.get(pid, [])]
    return found


def with_environment(name: str, fits: Callable[[str], bool]) -> list[int]:
    """Return the processes in whose environment `name` has a value that `fits`, never this one.

    Reads /proc/PID/environ, which shows the environment a process was started with. Processes of other users
    cannot be read and are left out, as are those that overwrite it (an ssh multiplexing master does).
    """
    prefix = f"{name}=".encode()
    found = []
    for pid in pids():
        if pid == os.getpid():
            continue
        try:
            environ = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        for item in environ.split(b"\0"):
            if item.startswith(prefix) and fits(item[len(prefix) :].decode(errors="replace")) and alive(pid):
                found.append(pid)
                break
    return found


def kill_until_gone(find: Callable[[], list[int]], *, within_s: float = 5.0) -> int:
    """SIGKILL what `find` finds, again until it finds nothing; return how many there were.

    Again, because a process may fork between the look and the kill. Raises TimeoutError when some will not die
    (uninterruptible sleep), with their ids.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + within_s
    while found := find():
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        if time.monotonic() > deadline:
            msg = f"processes {found} are still there {within_s:g} s after SIGKILL"
            raise TimeoutError(msg)
        time.sleep(0.01)
    return len(killed)
