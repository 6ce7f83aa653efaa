"""A small MCP server of the standard library, which slot_stand packs into a wheel; it misbehaves at will."""

import argparse
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers a health check, initialize, tools/list and tools/call."""

    given: argparse.Namespace
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(self.given.health, {"environment": dict(os.environ)})

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        results = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "serverInfo": {"name": "tinymcp", "version": self.given.version},
            },
            "tools/list": {"tools": [{"name": name, "inputSchema": {}} for name in self.given.tools.split(",")]},
            "tools/call": {"content": [{"type": "text", "text": "ok"}], "isError": self.given.sick},
        }
        if "id" not in message:
            self.answer(202, None)
        else:
            self.answer(200, {"jsonrpc": "2.0", "id": message["id"], "result": results[message["method"]]})

    def answer(self, status: int, value: object) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Mcp-Session-Id", "s1")
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", default="1")
    parser.add_argument("--tools", default="a,b")
    parser.add_argument("--health", type=int, default=200)
    parser.add_argument("--sick", action="store_true")
    parser.add_argument("--fail")
    Handler.given = parser.parse_args()
    if Handler.given.fail:
        sys.exit(f"tinymcp: {Handler.given.fail}")
    print("tinymcp starts", flush=True)
    ThreadingHTTPServer((Handler.given.host, Handler.given.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
