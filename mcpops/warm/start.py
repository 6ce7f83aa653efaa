"""Start an ssh session and the server at its far end."""

from __future__ import annotations

import os
import resource
import select
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from mcpops.warm.command import READY
from mcpops.warm.errors import NotStarted, Unknown

_PREAMBLE_BYTES = 1 << 16  # what a login may print before the server is there
_TICK_S = 0.05  # how long a prompt may go unseen
_SAID_BYTES = 1 << 20
_END_S = 1.0  # for ssh to end after its session did, and tell why
_HELLO = struct.Struct(">cI")


@dataclass(frozen=True)
class Start:
    """A session to be: argv of ssh, the program for the far end, how long it may take, and what sudo asks for."""

    argv: Sequence[bytes]
    program: bytes
    timeout_s: float
    prompt: str = ""
    password: str = ""


def start(how: Start) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Return this side's end of a session whose server is ready, and ssh, which ends with the session.

    Raises NotStarted, or Unknown with the server's own words when it cannot work there.
    """
    ours, theirs = socket.socketpair()
    said = tempfile.TemporaryFile()  # noqa: SIM115 - closed below; a master connection may hold it for long
    with theirs, said:
        process = subprocess.Popen(
            [os.fsdecode(word) for word in how.argv],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=said,
            start_new_session=True,  # no terminal: nobody is asked anything, and Ctrl-C is for the main process
        )
        # What a host writes there is ssh's to keep for as long as the session lasts: no more than this.
        with suppress(OSError):  # it ended already
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (_SAID_BYTES, _SAID_BYTES))
        theirs.close()
        try:
            hello = _await(ours, said, how)
        except OSError as error:
            code = _end(ours, process)
            raise NotStarted(f"no server answers ({error})", code, _read(said)) from error
        except BaseException:
            _end(ours, process)
            raise
    if hello:
        _end(ours, process)
        raise Unknown(f"no server can be there: {hello}")
    return ours, process


def _end(ours: socket.socket, process: subprocess.Popen[bytes]) -> int | None:
    """End a session that came to nothing; return ssh's exit code, None when it had to be killed."""
    ours.close()
    try:
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()  # it waits for a login that does not end, and looks at nothing else
        process.wait()
        return None


def _await(end: socket.socket, said: IO[bytes], how: Start) -> str:
    """Hand over the program, read until the server is ready, and return why it cannot be, or nothing."""
    deadline_s = time.monotonic() + how.timeout_s
    if not how.prompt:
        end.sendall(how.program)
    sent = asked = not how.prompt
    data = b""
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or len(data) > _PREAMBLE_BYTES:
            raise TimeoutError("it took too long")
        if select.select([end], [], [], left_s if sent else min(left_s, _TICK_S))[0]:
            piece = end.recv(_PREAMBLE_BYTES)
            if not piece:
                raise ConnectionError("the session ended")
            data += piece
        _, ready, rest = data.partition(READY + b"\n")
        if ready and not sent:
            end.sendall(how.program)
            sent = True
        elif not sent and (times := _read(said).count(how.prompt)):
            if times > 1:
                raise PermissionError("sudo does not take the password")
            if not asked:
                end.sendall(how.password.encode() + b"\n")
                asked = True
        if ready and len(rest) >= _HELLO.size:
            kind, size = _HELLO.unpack(rest[: _HELLO.size])
            if kind != b"H" or size > _PREAMBLE_BYTES:
                raise ConnectionError("it said what it should not")
            if len(rest) >= _HELLO.size + size:
                return rest[_HELLO.size :].decode(errors="replace")


def _read(said: IO[bytes]) -> str:
    return os.pread(said.fileno(), _PREAMBLE_BYTES, 0).decode(errors="replace")
