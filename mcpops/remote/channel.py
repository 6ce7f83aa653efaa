"""Channel: one `hostside serve` on one host, asked over and over without starting anything again.

Local and SSH channels are the same thing, a process whose stdin and stdout speak hostside's lines; they differ in the
argv that starts it (see transport). The process ends with this one: end of file on its stdin ends `hostside serve`.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from mcpops.core.errors import McpopsError, Unknown
from mcpops.model.target import Target

CHUNK_BYTES = 65_536
STDERR_TAIL_BYTES = 2_000
END_S = 1.0  # hostside ends at once at end of file; more means that it hangs


class Unreachable(Unknown):
    """A host that gave no answer: it is not known what is so there, or whether what was asked has happened."""

    def __init__(self, host: str, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message, detail=detail, hint=hint, where=host)
        self.host = host


class Silent(Unreachable):
    """No answer in time; one may still come."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What hostside said: its exit code, its JSON object, and when it was asked and heard (this machine's clock)."""

    exit: int
    output: dict[str, Any]
    started_at_ns: int
    ended_at_ns: int

    @property
    def error(self) -> dict[str, Any]:
        """The error object; empty when the answer is none."""
        found = self.output.get("error")
        return found if isinstance(found, dict) else {}


class Channel(Protocol):
    """An open way to hostside on one host."""

    @property
    def target(self) -> Target:
        """The host at the other end."""

    def call(self, argv: Sequence[str], deadline_s: float) -> Answer:
        """Do one command of hostside and return its answer; raises Unreachable after `deadline_s` or at its end."""

    def close(self) -> None:
        """End the far process; never raises."""


Explain = Callable[[str], tuple[str, str]]


def _plain(said: str) -> tuple[str, str]:
    return said or "it said nothing on stderr", "`mcpops status` tells which fronts answer"


class ProcessChannel:
    """A Channel over the stdin and stdout of a process. Calls from several threads take turns.

    `explain` turns what the process said on stderr into detail and hint of an error.
    """

    def __init__(self, target: Target, argv: Sequence[str], *, explain: Explain = _plain) -> None:
        self.target = target
        self._explain = explain
        self._turn = threading.Lock()
        self._asked = 0
        self._silent = False
        self._buffer = b""
        self._stderr = os.memfd_create("stderr")  # memory, not a pipe: that could fill up and stop the far end
        try:
            # A session of its own: Ctrl-C is for us to handle, and must not cut a call in two.
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._stderr)
            raise Unreachable(
                target.name, f"{target.name}: {argv[0]} cannot be started", detail=str(error), hint=f"install {argv[0]}"
            ) from error
        assert self._process.stdin is not None  # noqa: S101 - for mypy: both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    def call(self, argv: Sequence[str], deadline_s: float) -> Answer:
        """Do one command; an answer that comes after its deadline is thrown away by the next call."""
        with self._turn:
            self._asked += 1
            started_at_ns = time.time_ns()
            request = json.dumps({"id": self._asked, "argv": list(argv)}) + "\n"
            try:
                self._stdin.write(request.encode())
            except (OSError, ValueError) as error:
                raise self._ended() from error
            answer = self._answer(time.monotonic() + deadline_s, deadline_s)
            self._silent = False
        return Answer(
            exit=int(answer["exit"]),
            output=answer["output"],
            started_at_ns=started_at_ns,
            ended_at_ns=time.time_ns(),
        )

    def _answer(self, until_s: float, deadline_s: float) -> dict[str, Any]:
        while True:
            line = self._line(until_s, deadline_s)
            try:
                answer = json.loads(line)
                fits = answer["id"] == self._asked
                if fits and isinstance(answer["exit"], int) and isinstance(answer["output"], dict):
                    return dict(answer)
            except (ValueError, KeyError, TypeError):
                raise Unreachable(
                    self.target.name,
                    f"{self.target.name}: what answers is not hostside",
                    detail=line[:200].decode(errors="replace"),
                    hint="a login shell that prints, or an old hostside; run the role `hostside` there",
                ) from None

    def _line(self, until_s: float, deadline_s: float) -> bytes:
        while b"\n" not in self._buffer:
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not self._selector.select(left_s):
                self._silent = True
                raise Silent(
                    self.target.name,
                    f"{self.target.name}: no answer within {deadline_s:g} s",
                    detail=self._said(),
                    hint=f"see whether {self.target.address} is up",
                )
            chunk = os.read(self._stdout.fileno(), CHUNK_BYTES)
            if not chunk:
                raise self._ended()
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _said(self) -> str:
        length = os.fstat(self._stderr).st_size
        return (
            os.pread(self._stderr, STDERR_TAIL_BYTES, max(0, length - STDERR_TAIL_BYTES))
            .decode(errors="replace")
            .strip()
        )

    def _ended(self) -> McpopsError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        detail, hint = self._explain(self._said())
        return Unreachable(self.target.name, f"{self.target.name}: the channel ended", detail=detail, hint=hint)

    def close(self) -> None:
        """End the process: end of file first, then SIGKILL; that at once where nothing was heard for too long."""
        with suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(0 if self._silent else END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        self._stdout.close()
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1
