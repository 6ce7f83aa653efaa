"""The far end of a warm connection: a Python on a host that runs Ansible's modules in forked children.

It is sent as source and is the last thing that an ssh session runs: requests come on standard input, answers leave on
standard output, and when the input ends so does this process, with what it was running. One request at a time.
Standard library only, Python 3.9 or newer, Linux. The protocol, lengths in four bytes, big-endian:

- a request: length, a JSON object with `op`, then `size` bytes of body
  - `payload` (`digest`, `sitecustomize`): keep the zip of a module
  - `module` (`digest`, `fqn`, `profile`, `nofile`, `environment`: bytes of JSON in front of the parameters): run it
  - `shell` (`command`): do a command of Ansible's own; `put` (`path`, `mode`): write the body to a file
- an answer: kind (one byte), length, data
  - H: ready, or why not; N: the zip of this digest is wanted; K: kept
  - O, E: a piece of what the child printed; X: it ended with this code
  - R: refused, JSON with `why`, and `fence` where a higher one is there: nothing was done
  - S: this host changed, start another server; B: idle for too long: nothing was done, and this process leaves

What may be secret (parameters, environment, a file's content) is read by the child: this process forks before it.
"""

from __future__ import annotations

import gc
import json
import os
import pwd
import re
import select
import signal
import site
import struct
import sys
from contextlib import suppress
from typing import Any

from mcpops.warm.host import child, own
from mcpops.warm.host.payloads import Warmth
from mcpops.warm.host.scratch import Scratch
from mcpops.warm.host.session import Gone, end_tree, read, skip, write

_BUFFER_BYTES = 1 << 16
_HEADER_BYTES = 1 << 20
_RDHUP = 0x2000  # POLLRDHUP of linux/poll.h; select has no name for it before Python 3.14
_LENGTH = struct.Struct(">I")
# What a server has read, or Python keeps, and a new session would read anew: who changed it wants another server.
_FILES = (
    "/etc/group", "/etc/passwd", "/etc/nsswitch.conf", "/etc/environment", "/etc/default/locale", "/etc/sudoers",
    "/etc/security/limits.conf", "/etc/security/pam_env.conf", "/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf",
)  # fmt: skip
_DIRECTORIES = ("/etc/security/limits.d", "/etc/sudoers.d", "/etc/pam.d", "/etc/crypto-policies/back-ends")


class Surroundings:
    """The files and directories whose change makes a server stale."""

    def __init__(self) -> None:
        self._paths = [sys.executable, os.__file__, *(path for path in sys.path if path)]
        with suppress(AttributeError, OSError):
            self._paths += [*site.getsitepackages(), site.getusersitepackages()]
        self._paths += _starts(self._paths)
        self._paths += _FILES
        for directory in _DIRECTORIES:
            self._paths.append(directory)
            with suppress(OSError):
                self._paths += [os.path.join(directory, name) for name in os.listdir(directory)]
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether something changed since this object was made."""
        return self._look() != self._seen

    def _look(self) -> list[tuple[int, int, int] | None]:
        found: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            try:
                status = os.stat(path)
                found.append((status.st_dev, status.st_ino, status.st_mtime_ns))
            except OSError:
                found.append(None)
        return found


def _starts(directories: list[str]) -> list[str]:
    """Return the files that Python reads at its start (the module site): they can change without their directory."""
    found = [os.path.join(sys.prefix, "pyvenv.cfg")]
    found += [getattr(sys.modules.get(name), "__file__", None) or "" for name in ("sitecustomize", "usercustomize")]
    for directory in directories:
        with suppress(OSError):
            found += [os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(".pth")]
    return found


class Fence:
    """The highest number that this host has seen, as mcpops keeps it (mcpops/ansible/fence.py)."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._number, self._beside = int(given["number"]), given["beside"]
        login = os.environ.get("SUDO_UID")
        home = pwd.getpwuid(int(login)).pw_dir if login else os.environ["HOME"]
        self._directory = os.path.join(home, given["directory"])
        if not os.path.exists(os.path.join(self._directory, str(self._number))):
            raise ValueError(f"the fence of this run is not kept in {self._directory}")

    def higher(self) -> int:
        """Return a number above ours, 0 when there is none."""
        numbers = [0]
        with suppress(OSError):
            numbers += [int(name) for name in os.listdir(self._directory) if name.isdigit()]
        for path in self._beside:
            with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
                numbers += map(int, re.findall(r'"fence": *(\d+)', file.read()))
        highest = max(numbers)
        return highest if highest > self._number else 0


class Server:
    """One ssh session: takes requests until its input ends."""

    def __init__(self, settings: dict[str, Any], out: int) -> None:
        os.close(os.pidfd_open(os.getpid()))  # raises where the kernel is older than 5.3
        self._out, self._idle_ms = out, float(settings["idle_s"]) * 1000
        self._warmth = Warmth()
        self._fence = Fence(settings["fence"]) if settings["fence"] else None
        self._surroundings = Surroundings()
        self._buffer = bytearray(_BUFFER_BYTES)
        self._scratch = Scratch()
        self._running = 0

    def serve(self) -> None:
        """Answer requests; returns when this process should leave, while the run goes on.

        Raises Gone, or OSError, with the session.
        """
        self._answer(b"H")
        poll = select.poll()
        poll.register(0, select.POLLIN)
        while True:
            if not poll.poll(self._idle_ms):
                if self._scratch:
                    continue  # a task is under way: a large file comes by sftp, or root's server works on one
                return self._answer(b"B")
            (size,) = _LENGTH.unpack(read(4))
            if size > _HEADER_BYTES:
                return None
            request = json.loads(bytes(read(size)))
            if request["op"] == "leave":
                return None
            if request["op"] == "payload":
                self._keep(request)
            elif self._surroundings.changed():
                skip(request["size"], self._buffer)
                return self._answer(b"S")
            else:
                self._take(request)

    def stop(self, *_: object) -> None:
        """Handle SIGTERM and SIGHUP: leave nothing behind."""
        self.end()
        os._exit(1)

    def end(self) -> None:
        """End what runs, if something does, and remove what Ansible cannot any more."""
        self._scratch.remove()  # first: whoever ends this process may leave it no time for more
        if self._running:
            end_tree(self._running)
            self._scratch.remove()

    def _answer(self, kind: bytes, data: bytes | memoryview = b"") -> None:
        write(self._out, kind + _LENGTH.pack(len(data)))
        write(self._out, data)

    def _refuse(self, why: str, fence: int = 0) -> None:
        self._answer(b"R", json.dumps({"why": why, "fence": fence}).encode())

    def _keep(self, request: dict[str, Any]) -> None:
        data = bytes(read(request["size"]))
        try:
            self._warmth.keep(request["digest"], data, request["sitecustomize"])
        except Exception as error:  # noqa: BLE001 - whatever a payload does when it is imported
            self._refuse(f"the payload cannot be used there: {error}")
        else:
            self._answer(b"K")

    def _take(self, request: dict[str, Any]) -> None:
        """Run what was asked for, unless it may not, or cannot, be run."""
        higher = self._fence.higher() if self._fence else 0
        wanted = request["op"] == "module" and request["digest"] not in self._warmth.payloads
        if not higher and not wanted:
            return self._run(request)
        skip(request["size"], self._buffer)
        if higher:
            return self._refuse(f"fenced by {higher}", higher)
        return self._answer(b"N")

    def _run(self, request: dict[str, Any]) -> None:
        self._scratch.note(request)
        said = own.run(request["command"]) if request["op"] == "shell" else None
        status = 0 if said is not None else self._fork(request)
        if self._fence and self._fence.higher():
            raise Gone  # who took over ended it, perhaps: what it says of itself is no result
        if said:
            self._answer(b"O", said)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            self._answer(b"E", _last_words(status))
            code = 128 - code
        self._answer(b"X", _LENGTH.pack(code))

    def _fork(self, request: dict[str, Any]) -> int:
        """Have a child do it, pass on what it prints, and return how it ended."""
        out, error, server = os.pipe(), os.pipe(), os.getpid()
        pid = os.fork()
        if not pid:
            child.run(request, self._warmth, out[1], error[1], server)
        self._running = pid
        os.close(out[1])
        os.close(error[1])
        try:
            self._pass_on({out[0]: b"O", error[0]: b"E"})
            status = os.waitpid(pid, 0)[1]
        finally:
            self._buffer[:] = bytes(_BUFFER_BYTES)
        self._running = 0
        return status

    def _pass_on(self, pipes: dict[int, bytes]) -> None:
        """Send what the child prints until nobody holds the pipes any more; raises Gone with the session."""
        poll = select.poll()
        poll.register(0, _RDHUP)
        for handle in pipes:
            poll.register(handle, select.POLLIN)
        while pipes:
            for handle, _ in poll.poll():
                if handle == 0:  # asked for nothing but its end
                    raise Gone
                count = os.readv(handle, [self._buffer])
                if count:
                    self._answer(pipes[handle], memoryview(self._buffer)[:count])
                else:
                    poll.unregister(handle)
                    os.close(handle)
                    del pipes[handle]


def _last_words(status: int) -> bytes:
    """Return what the shell says of a program that a signal ended: Ansible's command has one around it (dash, bash)."""
    number = os.WTERMSIG(status)
    if number in (signal.SIGINT, signal.SIGPIPE):
        return b""
    return f"{signal.strsignal(number)}{' (core dumped)' if os.WCOREDUMP(status) else ''}\n".encode()


def main(settings: dict[str, Any]) -> None:
    """Serve this session to its end; what runs then is ended with it."""
    gc.disable()  # nothing here makes cycles that matter; it would look at all that is kept, again and again
    out = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # what an import prints must not look like an answer
    os.close(null)
    try:
        server = Server(settings, out)
    except Exception as error:  # noqa: BLE001 - told to the other side, which takes the ordinary way
        said = str(error).encode()
        write(out, b"H" + _LENGTH.pack(len(said)) + said)
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, server.stop)
    try:
        server.serve()
    except (Gone, OSError):
        server.end()  # the session is over
    finally:
        os._exit(0)
