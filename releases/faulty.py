"""A release that breaks under traffic: the real MCP server behind a thin wrapper, for tests and the demo.

    python faulty.py --mode 500 --after 20 --address A --port P -- mcp-proxy --host 127.0.0.1 --port {inner} ...

It passes everything on, streams too, until `--after` POST requests have come that are not mcpops' own (the probe says
who it is in User-Agent); then it begins to answer 500, to take `--seconds` for each, or ends itself. The health path
stays good: that is what makes such a release hard to see. `--hide-tool` takes a tool out of tools/list.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

OWN_CLIENT = "mcpops-probe"
# Of one connection, not of the message: a proxy must not pass them on (RFC 9110, 7.6.1).
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "content-length",
    "date",
    "server",
}
METHODS = ["GET", "POST", "DELETE", "OPTIONS", "HEAD"]


class Wrapper:
    """Counts and decides."""

    def __init__(self, given: argparse.Namespace, inner: str) -> None:
        self.given = given
        self.client = httpx.AsyncClient(base_url=inner, timeout=httpx.Timeout(None))
        self.seen = 0

    async def handle(self, request: Request) -> Response:
        """Answer a request: misbehave, or pass it on."""
        if request.method == "POST" and not request.headers.get("user-agent", "").startswith(OWN_CLIENT):
            self.seen += 1
            if self.seen > self.given.after:
                refusal = await self.misbehave()
                if refusal:
                    return refusal
        body = await request.body()
        if self.given.hide_tool and b'"tools/list"' in body:
            return await self.listed(request, body)
        answer = await self.ask(request, body)
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, _passed_on(answer.headers), background=BackgroundTask(answer.aclose)
        )

    async def misbehave(self) -> Response | None:
        """Do what `--mode` says."""
        if self.given.mode == "500":
            return JSONResponse({"error": "broken on purpose"}, status_code=500)
        if self.given.mode == "slow":
            await asyncio.sleep(self.given.seconds)
        if self.given.mode == "exit":
            os._exit(1)
        return None

    async def ask(self, request: Request, body: bytes) -> httpx.Response:
        """Pass a request on to the real server."""
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP | {"host"}}
        url = httpx.URL(path=request.url.path, query=request.url.query.encode())
        asked = self.client.build_request(request.method, url, headers=headers, content=body)
        asked.headers["host"] = "localhost"
        return await self.client.send(asked, stream=True)

    async def listed(self, request: Request, body: bytes) -> Response:
        """Answer tools/list without the hidden tool."""
        answer = await self.ask(request, body)
        lines = (await answer.aread()).decode().split("\n")
        text = "\n".join(self.without_tool(line) for line in lines)
        return Response(text, answer.status_code, _passed_on(answer.headers))

    def without_tool(self, line: str) -> str:
        """Return a line of an answer without the hidden tool."""
        prefix, _, data = line.partition("data: ") if line.startswith("data: ") else ("", "", line)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            message = json.loads(data)
            tools = message["result"]["tools"]
            message["result"]["tools"] = [tool for tool in tools if tool["name"] != self.given.hide_tool]
            return f"{'data: ' if line.startswith('data: ') else prefix}{json.dumps(message)}"
        return line


def _passed_on(headers: httpx.Headers) -> dict[str, str]:
    """Return the headers that belong to the message."""
    return {name: value for name, value in headers.items() if name not in HOP_BY_HOP}


def free_port() -> int:
    """Return a loopback port that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> None:
    """Run the wrapper and the server in it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else "")
    parser.add_argument("--mode", choices=["500", "slow", "exit", "none"], default="none")
    parser.add_argument("--after", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--hide-tool")
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    port = free_port()
    server = subprocess.Popen([word.replace("{inner}", str(port)) for word in given.command])
    # The real server's end is ours, and ours is its: supervisors see one process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    wrapper = Wrapper(given, f"http://127.0.0.1:{port}")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        for _ in range(600):
            if server.poll() is not None:
                sys.exit(f"the server ended with {server.returncode}")
            with contextlib.suppress(httpx.HTTPError):
                await wrapper.client.get("/status", headers={"host": "localhost"})
                break
            await asyncio.sleep(0.05)
        yield
        await wrapper.client.aclose()

    app = Starlette(routes=[Route("/{path:path}", wrapper.handle, methods=METHODS)], lifespan=lifespan)
    try:
        uvicorn.run(app, host=given.address, port=given.port, log_level="warning", timeout_graceful_shutdown=3)
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    main()
