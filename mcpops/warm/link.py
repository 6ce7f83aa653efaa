"""One ssh session with a server at its far end: ask it, read its answers.

What comes from the host is bounded, and nothing of it is used but the bytes that a program printed and its exit code.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mcpops.warm.errors import Absent, Broken, Refused

_HEAD = struct.Struct(">cI")
_PIECE_BYTES = 1 << 16  # the server's buffer
_OUTPUT_BYTES = 512 << 20  # of one command
_TICK_S = 0.5  # how long the death of the main process may go unseen


@dataclass(frozen=True)
class Answer:
    """What a command came to, as an ssh session gives it."""

    code: int
    out: bytes
    error: bytes


class Link:
    """A session whose server is ready. `clean`: no request is under way, so that it may be used again."""

    def __init__(self, end: socket.socket, parent: int) -> None:
        self.end, self._parent, self.clean = end, parent, True

    def ask(self, request: Mapping[str, Any], body: bytes = b"") -> Answer | str:
        """Have a request done. Returns `wanted` when the server needs the payload first, `kept` when it has taken one.

        Raises Absent when the server left without having begun, Refused when it will not, Broken when nobody knows.
        """
        self.clean = False
        head = json.dumps({**request, "size": len(body)}).encode()
        self._send(struct.pack(">I", len(head)) + head + body)
        printed: dict[bytes, list[bytes]] = {b"O": [], b"E": []}
        for kind, data in self._answers():
            if kind in printed:
                printed[kind].append(data)
                continue
            if kind in (b"B", b"S"):
                raise Absent("it was idle" if kind == b"B" else "something that it depends on changed there")
            answer: Answer | str | Refused | None = {b"N": "wanted", b"K": "kept"}.get(kind)
            if kind == b"X" and len(data) == 4:
                answer = Answer(int.from_bytes(data, "big"), b"".join(printed[b"O"]), b"".join(printed[b"E"]))
            elif kind == b"R":
                answer = _refusal(data)
            if answer is None:
                break
            self.clean = True
            if isinstance(answer, Refused):
                raise answer
            return answer
        raise Broken("the server said what it should not")

    def close(self) -> None:
        """End the session; what runs there is ended with it."""
        self.end.close()

    def _send(self, data: bytes) -> None:
        with suppress(OSError):  # it left; a word of it may be there to be read
            self.end.sendall(data)

    def _answers(self) -> Iterator[tuple[bytes, bytes]]:
        total = 0
        while True:
            kind, size = _HEAD.unpack(self._read(_HEAD.size))
            total += size
            if size > _PIECE_BYTES or total > _OUTPUT_BYTES:
                raise Broken(f"it sent a piece of {size} bytes, {total} in all")
            yield kind, self._read(size)

    def _read(self, size: int) -> bytes:
        data = bytearray(size)
        view, got = memoryview(data), 0
        while got < size:
            self._wait()
            try:
                count = self.end.recv_into(view[got:])
            except OSError as error:
                raise Broken(str(error)) from error
            if not count:
                raise Broken("the session ended")
            got += count
        return bytes(data)

    def _wait(self) -> None:
        """Wait for the session to say something. A worker whose main process is gone ends, and so does the session."""
        while not select.select([self.end], [], [], _TICK_S)[0]:
            if os.getppid() != self._parent:
                os._exit(1)


def _refusal(data: bytes) -> Refused | None:
    try:
        said = json.loads(data)
        return Refused(str(said["why"])[:500], said["fence"]) if isinstance(said["fence"], int) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
