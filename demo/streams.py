"""Event streams held open through the front: each is a session of its own, and a stream that ends is a cut.

Raw sockets on purpose: an SDK reconnects a lost stream in silence (twice, a second apart), which would hide the cut.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from demo.http1 import Answer, Connection, Endpoint, RequestFailed
from demo.traffic import MCP_HEADERS, PING, SLOT_HEADER

PROTOCOL = "2025-06-18"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": {"name": "mcpops-load", "version": "1"}},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


@dataclass(frozen=True)
class StreamReport:
    """`opened` streams, those that could not be (`refused`), those `cut` while held, and sessions `lost` at the end."""

    opened: int
    refused: int
    cut: int
    lost: int
    slots: dict[str, int]
    why: tuple[str, ...]


@dataclass
class _Held:
    session: str
    slot: str
    source: str | None
    connection: Connection
    reader: asyncio.Task[None] | None = None
    cut: bool = False


class Streams:
    """`count` sessions of the MCP endpoint at `path`, each with a GET stream held open until `stop`."""

    def __init__(self, endpoint: Endpoint, sources: tuple[str, ...], count: int, path: str = "/mcp") -> None:
        self._endpoint = endpoint
        self._sources = sources
        self._count = count
        self._path = path
        self._held: list[_Held] = []
        self._why: list[str] = []
        self._timeout_s = 10.0

    @property
    def cut(self) -> int:
        """Streams cut so far."""
        return sum(held.cut for held in self._held)

    @property
    def opened(self) -> int:
        """Streams opened."""
        return len(self._held)

    async def start(self) -> None:
        """Open all of them, a few at a time; one that cannot be opened is counted, not raised."""
        for number in range(self._count):
            source = self._sources[number % len(self._sources)] if self._sources else None
            try:
                await self._open(source)
            except RequestFailed as failure:
                self._why.append(str(failure))

    async def stop(self) -> StreamReport:
        """Ask each session one last ping, count those lost, end them with DELETE and close."""
        cut = self.cut
        lost = 0
        for held in self._held:
            lost += not await self._alive(held)
            if held.reader:
                held.reader.cancel()
        await asyncio.gather(*(h.reader for h in self._held if h.reader), return_exceptions=True)
        await asyncio.gather(*(h.connection.closed() for h in self._held))
        slots: dict[str, int] = {}
        for held in self._held:
            slots[held.slot] = slots.get(held.slot, 0) + 1
        refused = self._count - len(self._held)
        return StreamReport(len(self._held), refused, cut, lost, slots, tuple(sorted(set(self._why))))

    async def _open(self, source: str | None) -> None:
        connection = await Connection.open(self._endpoint, source, self._timeout_s)
        first = await self._post(connection, INITIALIZE, ())
        session = first.headers.get("mcp-session-id", "")
        if first.status != 200 or not session:
            await connection.closed()
            raise RequestFailed("protocol", f"initialize answered {first.status} without a session")
        pinned = _pinned(session)
        await self._post(connection, INITIALIZED, pinned)
        opened = await connection.open_stream(self._path, (("Accept", "text/event-stream"), *pinned), self._timeout_s)
        if opened.status != 200:
            await connection.closed()
            raise RequestFailed("protocol", f"the stream was answered {opened.status}")
        held = _Held(session, first.headers.get(SLOT_HEADER, ""), source, connection)
        held.reader = asyncio.create_task(self._read(held))
        self._held.append(held)

    async def _read(self, held: _Held) -> None:
        async for _ in held.connection.events():
            pass
        held.cut = True  # reached only when the server ends it: `stop` cancels this task instead
        self._why.append(f"stream of {held.slot} ended")

    async def _alive(self, held: _Held) -> bool:
        """True when the session still answers a ping on a connection of its own; then it is ended with DELETE."""
        try:
            connection = await Connection.open(self._endpoint, held.source, self._timeout_s)
            answer = await self._post(connection, PING, _pinned(held.session))
            if answer.status == 200:
                await connection.ask("DELETE", self._path, _pinned(held.session), b"", self._timeout_s)
            await connection.closed()
        except RequestFailed as failure:
            self._why.append(f"last ping: {failure}")
            return False
        if answer.status != 200:
            self._why.append(f"last ping: status {answer.status}")
        return answer.status == 200

    async def _post(self, connection: Connection, message: object, pinned: tuple[tuple[str, str], ...]) -> Answer:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return await connection.ask("POST", self._path, (*MCP_HEADERS, *pinned), body, self._timeout_s)


def _pinned(session: str) -> tuple[tuple[str, str], ...]:
    return (("Mcp-Session-Id", session), ("MCP-Protocol-Version", PROTOCOL))
