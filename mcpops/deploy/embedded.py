"""The embedded default's supervisord: start it apart from whoever asks, end it and everything below it.

Every process of it carries `MCPOPS_DAEMON=<home>` in its environment. That is how they are found again, also when
supervisord itself was killed and left its children behind; a shell that merely stands in the directory is not one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mcpops.core.errors import Failed, Unknown
from mcpops.core.proc import DAEMON
from mcpops.hostside.state import HostError
from mcpops.hostside.supervisor import Supervisor

MARKER = DAEMON  # it outlives the run that starts it
START_TIMEOUT_S = 15.0
SHUTDOWN_S = 30.0  # supervisord ends its programs first; each has its own bound below this
KILL_S = 5.0
SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its final zero


@dataclass(frozen=True)
class Process:
    """A process of an embedded default."""

    pid: int
    command: str


def processes(home: Path) -> list[Process]:
    """Return the processes that carry this home's marker, those of other users excepted (they cannot be ours)."""
    wanted = f"{MARKER}={home}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if command:  # a zombie has none, and is nobody's any more
                    found.append(Process(int(entry.name), command))
        except OSError:
            continue
    return sorted(found, key=lambda process: process.pid)


def start(home: Path, supervisord: Path, config: Path, socket: Path) -> bool:
    """Start supervisord as a daemon unless it answers on `socket`; return whether it was started.

    Raises Failed when it does not come up within START_TIMEOUT_S, with the end of what it said.
    """
    if len(os.fsencode(socket)) > SOCKET_PATH_BYTES:
        detail = f"{socket} has {len(os.fsencode(socket))} bytes, a Unix socket's path may have {SOCKET_PATH_BYTES}"
        raise Failed("the project's path is too long for the embedded default", detail=detail, hint="move the project")
    if answers(socket):
        return False
    stray = processes(home)
    if stray:
        _end(home, stray)
    # An environment of its own: no secret of the caller, and nothing that marks it as part of the caller's run.
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TZ") if name in os.environ}
    environment = {**kept, "PATH": f"{supervisord.parent}:{os.defpath}", MARKER: str(home)}
    argv = [str(supervisord), "--configuration", str(config)]
    result = subprocess.run(
        argv,
        env=environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    while result.returncode == 0 and time.monotonic() < deadline:
        if answers(socket):
            return True
        time.sleep(0.05)
    said = "\n".join((result.stdout + result.stderr).strip().splitlines()[-8:])
    raise Failed(f"supervisord did not answer within {START_TIMEOUT_S:g} s", detail=said, hint=f"see the log in {home}")


def stop(home: Path, socket: Path) -> list[Process]:
    """End supervisord and every process of it; return what was running before.

    Raises Unknown when a process outlives SIGKILL.
    """
    running = processes(home)
    if answers(socket):
        Supervisor(socket).shutdown()
        deadline = time.monotonic() + SHUTDOWN_S
        while (answers(socket) or processes(home)) and time.monotonic() < deadline:
            time.sleep(0.05)
    left = processes(home)
    if left:
        _end(home, left)
    return running


def answers(socket: Path) -> bool:
    """Tell whether a supervisord answers on a socket."""
    try:
        return Supervisor(socket).is_running()
    except HostError:
        return False


def _end(home: Path, left: Iterable[Process]) -> None:
    """SIGTERM, then SIGKILL, to processes that carry the marker."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue
        left = _wait_gone(home, KILL_S)
        if not left:
            return
    names = ", ".join(f"{process.pid} ({process.command[:60]})" for process in left)
    raise Unknown("processes of the embedded default outlive SIGKILL", detail=names)


def _wait_gone(home: Path, timeout_s: float) -> list[Process]:
    """Wait until no process carries the marker; return what is left after the deadline."""
    deadline = time.monotonic() + timeout_s
    while (left := processes(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
