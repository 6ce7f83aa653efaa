"""The server under test: the real MCP SDK 2.3 (streamable HTTP, stateful sessions) with counters that show a loss.

`python -m tests.bench.server SLOT PORT [--faults FILE]`. Endpoints: /mcp, GET /healthz, POST /echo. Tool `count`
returns the slot, a counter of this session (a lost session shows as a reset) and the number of the last notification
sent; from the first call on, the session's GET stream gets one numbered notification every 200 ms (a gap is a miss).
Answers to POST /echo and GET /healthz follow the fault file, read anew for each request: absent or empty = well,
`500`, or `slow 2.0` (seconds). Faults are for unpinned requests: a pinned session is told apart by the front.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
import warnings
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPDeprecationWarning
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

# Logging notifications are deprecated in 2026-07-28, and the only ones a client of 2025-11-25 shows to its user.
warnings.filterwarnings("ignore", category=MCPDeprecationWarning)
NOTIFY_EVERY_S = 0.2


class Session:
    """What one MCP session has seen so far: its calls and its numbered notifications."""

    def __init__(self) -> None:
        self.calls = 0
        self.noted = 0
        self.notifier: asyncio.Task[None] | None = None

    async def notify(self, session: Any, every_s: float, skip: range) -> None:
        """Send numbered notifications until the session is gone; leave out those in `skip` (a negative control)."""
        while True:
            await asyncio.sleep(every_s)
            self.noted += 1
            if self.noted in skip:
                continue
            await session.send_log_message(level="info", data={"n": self.noted}, logger="bench")


class Slot:
    """One running server: its name, its faults, its sessions by id."""

    def __init__(self, name: str, faults: Path | None, notify_every_s: float, skip: range) -> None:
        self.name = name
        self._faults = faults
        self._notify_every_s = notify_every_s
        self._skip = skip
        self._sessions: dict[str, Session] = {}

    async def count(self, ctx: Context[Any, Any]) -> dict[str, object]:
        """Count this session's calls."""
        key = (ctx.headers or {}).get("mcp-session-id", "")
        session = self._sessions.setdefault(key, Session()) if key else Session()
        session.calls += 1
        if key and session.notifier is None:
            work = session.notify(ctx.session, self._notify_every_s, self._skip)
            session.notifier = asyncio.create_task(work)
        return {"slot": self.name, "counter": session.calls if key else None, "noted": session.noted}

    async def health(self, request: Request) -> Response:
        """Answer a health check, or as the fault file says."""
        return await self._faulty() or JSONResponse({"slot": self.name})

    async def echo(self, request: Request) -> Response:
        """Answer a plain POST with its own body."""
        body = await request.body()
        received_at_ns = time.time_ns()
        fault = await self._faulty()
        return fault or Response(body, headers={"X-Received-At-Ns": str(received_at_ns)})

    async def _faulty(self) -> Response | None:
        fault = ""
        if self._faults:
            with contextlib.suppress(FileNotFoundError):
                fault = self._faults.read_text().strip()
        if fault == "500":
            return JSONResponse({"error": "told to fail"}, status_code=500)
        if fault.startswith("slow "):
            await asyncio.sleep(float(fault.split()[1]))
        return None


def build(slot: Slot) -> Starlette:
    """Put the MCP endpoint and the plain ones into one application."""
    server = MCPServer(f"bench-{slot.name}", log_level="WARNING")
    server.tool()(slot.count)
    server.custom_route("/healthz", methods=["GET"])(slot.health)
    server.custom_route("/echo", methods=["POST"])(slot.echo)
    return server.streamable_http_app(json_response=True)


def main() -> None:
    """Serve on loopback until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slot")
    parser.add_argument("port", type=int)
    parser.add_argument("--faults", type=Path)
    parser.add_argument("--notify-every-s", type=float, default=NOTIFY_EVERY_S)
    parser.add_argument("--skip-notification", type=int, default=0, help="leave this number out: a negative control")
    parser.add_argument("--skip-count", type=int, default=1, help="and how many from there on")
    options = parser.parse_args()
    skip = range(options.skip_notification, options.skip_notification + options.skip_count)
    slot = Slot(options.slot, options.faults, options.notify_every_s, skip)
    # Keep-alive well above the front's own idle time, so that the server never closes under a request.
    config = uvicorn.Config(build(slot), port=options.port, log_level="warning", timeout_keep_alive=120, ws="none")
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
