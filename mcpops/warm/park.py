"""Where open links wait between two tasks: in the kernel, in flight between two ends of a socket pair.

Ansible forks a worker for each task, from one main process. That process makes the pairs before it forks; a worker
sends a link's descriptor into one (SCM_RIGHTS, unix(7)), the next worker receives it. Nobody runs meanwhile. When
the last process that has the pairs is gone, the kernel drops what is in flight, and with it closes the links.

The kernel bounds what is in flight: about 278 messages a pair (net.core.wmem_default), and RLIMIT_NOFILE descriptors a
user. A link that does not fit is closed, and its server started again by the next task.
"""

from __future__ import annotations

import array
import fcntl
import hmac
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_PAIRS = 32  # hosts share them; 64 descriptors of a process
_LABEL_BYTES = 1024


_LEAVE = b'{"op": "leave", "size": 0}'


def leave(link: socket.socket) -> None:
    """Tell a server to leave while the run goes on: what it removes when its session is lost, it then lets be."""
    with suppress(OSError):
        link.sendall(struct.pack(">I", len(_LEAVE)) + _LEAVE)


@dataclass(frozen=True)
class Label:
    """Whose link it is: a digest of how the host is reached, who the server runs as, and its interpreter."""

    host: str
    user: str
    interpreter: str

    def encode(self) -> bytes:
        """Return it as a message."""
        return f"{self.host}\n{self.user}\n{self.interpreter}".encode()

    @classmethod
    def decode(cls, message: bytes) -> Label:
        """Return the label of a message."""
        return cls(*message.decode().split("\n"))


@dataclass(frozen=True)
class Found:
    """What waited for a label: a link, or the word that none is to be had."""

    link: socket.socket | None = None
    barred: bool = False


class Park:
    """Links by label, shared by the process that makes this object and all that it forks."""

    def __init__(self) -> None:
        self.made_by = os.getpid()
        self._pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(_PAIRS)]
        for pair in self._pairs:
            for end in pair:
                end.setblocking(False)
        self._key = os.urandom(32)
        self._lock = os.memfd_create("park", os.MFD_CLOEXEC)
        os.truncate(self._lock, _PAIRS + 1)

    def put(self, label: Label, link: socket.socket | None) -> None:
        """Leave a link for the next task, or (None) the word that none is to be had; closed in this process."""
        with self._locked(self._slot(label.host)):
            self._send(label, link)

    def take(self, wanted: Label) -> Found:
        """Take a link out."""
        link, barred = None, False
        with self._locked(self._slot(wanted.host)):
            for label, waiting in self._open(self._slot(wanted.host)):
                if label == wanted and waiting and link is None:
                    link = waiting
                    continue
                barred |= label == wanted and waiting is None
                self._send(label, waiting)
        return Found(link, barred)

    def interpreter(self, host: str, user: str) -> str:
        """Return an interpreter that serves a host, or served it: by choice one that does so for this user."""
        found = []
        with self._locked(self._slot(host)):
            for label, waiting in self._open(self._slot(host)):
                if label.host == host:
                    found.append((label.user != user, waiting is None, label.interpreter))
                self._send(label, waiting)
        return min(found)[2] if found else ""

    def drop(self, host: str) -> None:
        """Close all links to a host, and forget what was known of it."""
        with self._locked(self._slot(host)):
            for label, waiting in self._all(self._slot(host)):
                if label.host != host:
                    self._send(label, waiting)
                elif waiting:
                    waiting.close()

    def digest(self, secret: str) -> str:
        """Return a word by which this run tells secrets apart, and nobody anything else."""
        return hmac.new(self._key, secret.encode(), "sha256").hexdigest()

    def first(self) -> bool:
        """Whether nobody asked this before."""
        with self._locked(_PAIRS):
            before = os.pread(self._lock, 1, _PAIRS)
            os.pwrite(self._lock, b"\1", _PAIRS)
        return before == b"\0"

    @staticmethod
    def _slot(host: str) -> int:
        return int(host[:8], 16) % _PAIRS

    @contextmanager
    def _locked(self, slot: int) -> Iterator[None]:
        """Hold a slot. By a lock of the process: one of the file would be everybody's who was forked with it."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX, 1, slot)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, slot)

    def _send(self, label: Label, link: socket.socket | None) -> None:
        given = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [link.fileno()]))] if link else []
        try:
            self._pairs[self._slot(label.host)][0].sendmsg([label.encode()], given)
        except OSError:  # no room: the server is started again when it is needed
            if link:
                leave(link)
        if link:
            link.close()

    def _open(self, slot: int) -> Iterator[tuple[Label, socket.socket | None]]:
        """Receive all that waits, and close the links that said something or ended meanwhile."""
        for label, waiting in self._all(slot):
            if waiting and select.select([waiting], [], [], 0)[0]:
                waiting.close()
            else:
                yield label, waiting

    def _all(self, slot: int) -> list[tuple[Label, socket.socket | None]]:
        """Receive all messages that are there now."""
        received: list[tuple[Label, socket.socket | None]] = []
        size = array.array("i").itemsize
        with suppress(BlockingIOError):
            while True:
                text, given, flags, _ = self._pairs[slot][1].recvmsg(
                    _LABEL_BYTES, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC
                )
                if flags & socket.MSG_CTRUNC:
                    continue  # no descriptor was free for it: that link is closed
                handles = array.array("i", b"".join(data for _, _, data in given))
                received.append((Label.decode(text), socket.socket(fileno=handles[0]) if handles else None))
        return received
