"""A tiny MCP server, enough for a probe: rollback_backend.py SLOT PORT. Counts its requests for /_stats."""

import json
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    slot = ""
    last_request_ns = 0

    def do_GET(self) -> None:
        if self.path == "/_stats":
            self._answer({"slot": self.slot, "last_request_ns": Handler.last_request_ns})
        else:
            if self.path != "/status":
                Handler.last_request_ns = time.time_ns()
            self._answer({"slot": self.slot})

    def do_DELETE(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        Handler.last_request_ns = time.time_ns()
        message: dict[str, Any] = json.loads(body or "{}")
        if not message:
            self._answer({})
            return
        if "id" not in message:
            self._answer(None)
            return
        results: dict[str, Any] = {
            "initialize": {"protocolVersion": "2025-11-25", "serverInfo": {"name": "tiny"}, "capabilities": {}},
            "tools/list": {"tools": [{"name": "count", "inputSchema": {}}]},
        }
        result = results.get(message["method"], {})
        extra = {"Mcp-Session-Id": uuid.uuid4().hex} if message["method"] == "initialize" else {}
        self._answer({"jsonrpc": "2.0", "id": message["id"], "result": result}, **extra)

    def _answer(self, body: Any, **headers: str) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(202 if body is None else 200)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """The proxy's health checks reset their connections."""


if __name__ == "__main__":
    Handler.slot = sys.argv[1]
    Server(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
