"""Sessions of real MCP SDK clients, kept open while the service is switched; each group runs in a process of its own.

A group is one SDK (1.x or 2.x, by the Python given) and one way to connect: `legacy` (a session, as every server of
today has) or `auto` (SDK 2.3's default, which agrees on 2026-07-28 with a 2.3 server: no session at all). The process
apart keeps the clients' CPU off the load generator's clock and lets two SDK versions stand side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

WORKER = Path(__file__).with_name("session_worker.py")


class SessionsFailed(Exception):
    """The worker process did not do its part: it did not open its sessions in time, or ended early."""


@dataclass(frozen=True)
class SessionPlan:
    """What a group does. `python` has the SDK; `sources` are taken in turn; times in seconds.

    `connect_to` is an address to go to instead of looking up the URL's name; the certificate must still be the name's.
    """

    python: Path
    url: str
    cafile: Path | None
    count: int
    sources: tuple[str, ...] = ()
    mode: str = "legacy"
    connect_to: str | None = None
    tool: str = "count"
    arguments: dict[str, object] = field(default_factory=dict)
    call_every_s: float = 1.0
    call_timeout_s: float = 10.0
    reopen_after_s: float = 0.3
    settle_s: float = 2.0
    stagger_s: float = 0.02
    max_opens: int = 1000

    def settings(self) -> bytes:
        """The line the worker reads."""
        skip = ("python", "cafile")
        fields = {name: value for name, value in vars(self).items() if name not in skip}
        return json.dumps({**fields, "cafile": str(self.cafile) if self.cafile else None}).encode() + b"\n"


@dataclass(frozen=True)
class SessionReport:
    """One group's end: `lost` sessions died while in use, `errors` could not be opened, `missed` notifications."""

    sdk: str
    mode: str
    opened: int
    calls: int
    lost: int
    errors: int
    notes: int
    missed: int
    slots: tuple[tuple[str, ...], ...]
    why: tuple[str, ...]


class Sessions:
    """One running group: `start`, watch `calls`, `lost`, `missed` and `open_on`, then `stop` for the report."""

    def __init__(self, plan: SessionPlan) -> None:
        self._plan = plan
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._all_open = asyncio.Event()
        self._summary: dict[str, object] = {}
        self._why: deque[str] = deque(maxlen=50)
        self.open_on: dict[int, str] = {}
        self.calls = 0
        self.lost = 0
        self.missed = 0

    async def start(self, timeout_s: float = 30.0) -> None:
        """Start the worker and wait until each session is open.

        Raises SessionsFailed after `timeout_s`, or when there is no worker or it ends before.
        """
        try:
            self._process = await asyncio.create_subprocess_exec(
                str(self._plan.python), str(WORKER), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
        except OSError as error:
            raise SessionsFailed(f"the clients' Python does not start: {error}") from error
        assert self._process.stdin is not None
        self._process.stdin.write(self._plan.settings())
        self._reader = asyncio.create_task(self._read())
        when = "when the worker ended"
        try:
            await asyncio.wait_for(self._all_open.wait(), timeout_s)
        except TimeoutError:
            when = f"after {timeout_s} s"
        if len(self.open_on) < self._plan.count:
            await self.kill()
            count = f"{len(self.open_on)} of {self._plan.count}"
            raise SessionsFailed(f"{count} sessions open {when}; {list(self._why)[-3:]}")

    async def stop(self, timeout_s: float = 30.0) -> SessionReport:
        """End all sessions, and report. Raises SessionsFailed when the worker has no summary within `timeout_s`."""
        if not self._process or not self._reader or not self._process.stdin:
            raise SessionsFailed("not started")
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            await self.kill()
        await self._reader
        if not self._summary:
            raise SessionsFailed(f"no summary (exit {self._process.returncode}); {list(self._why)[-3:]}")
        return self._report()

    async def kill(self) -> None:
        """End the worker at once, without a report; nothing to do when it is not running."""
        if self._process and self._reader:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await asyncio.gather(self._process.wait(), self._reader)

    def _report(self) -> SessionReport:
        def count(name: str) -> int:
            value = self._summary.get(name, 0)
            return value if isinstance(value, int) else 0

        slots = self._summary.get("slots")
        return SessionReport(
            sdk=str(self._summary["sdk"]),
            mode=self._plan.mode,
            opened=count("opened"),
            calls=count("calls"),
            lost=count("lost"),
            errors=count("error"),
            notes=count("notes"),
            missed=count("missed"),
            slots=tuple(tuple(s) for s in slots) if isinstance(slots, list) else (),
            why=tuple(self._why),
        )

    async def _read(self) -> None:
        if not self._process or not self._process.stdout:
            return
        async for line in self._process.stdout:
            event = json.loads(line)
            self._take(event)
        self._all_open.set()  # the worker ended: who waits sees that sessions are missing

    def _take(self, event: dict[str, object]) -> None:
        kind, number = event["event"], event.get("session")
        if kind == "open" and isinstance(number, int):
            self.open_on[number] = str(event.get("slot", ""))
            if len(self.open_on) >= self._plan.count:
                self._all_open.set()
        elif kind == "call":
            self.calls += 1
        elif kind in ("lost", "error"):
            self.lost += kind == "lost"
            self._why.append(f"{kind}: {event.get('why')}")
        elif kind == "missed":
            self.missed += int(str(event["count"]))
        elif kind == "summary":
            self._summary = event
