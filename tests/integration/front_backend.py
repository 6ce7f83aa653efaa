"""A tiny HTTP server to stand behind the front: front_backend.py SLOT PORT

It answers with its slot, and does what it is told by POST /_mode/<ok|500|slow>. /status stays healthy in every mode:
a broken release seldom fails its own health check. /stream answers with an endless event stream. A request with the
header X-Begin gets a session id.
"""

import asyncio
import json
import sys
import time
import uuid
from dataclasses import dataclass, field


@dataclass
class Server:
    slot: str
    mode: str = "ok"
    requests: int = 0
    last_request_ns: int = 0
    seen: list[dict[str, str]] = field(default_factory=list)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                path = lines[0].split()[1]
                headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if ":" in line)}
                await reader.readexactly(int(headers.get("content-length", 0)))
                await self.answer(path, headers, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        status, extra, body = 200, "", {"slot": self.slot}
        if path.startswith("/_mode/"):
            self.mode = path.rsplit("/", 1)[1]
        elif path == "/_stats":
            body |= {"requests": self.requests, "last_request_ns": self.last_request_ns, "seen": self.seen[-5:]}
        elif path != "/status":
            self.requests, self.last_request_ns = self.requests + 1, time.time_ns()
            self.seen.append(headers)
            if self.mode == "slow":
                await asyncio.sleep(5)
            status = 500 if self.mode == "500" else 200
            if "x-begin" in headers:
                extra = f"Mcp-Session-Id: {uuid.uuid4().hex}\r\n"
            if path == "/stream":
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                while True:
                    writer.write(b"9\r\ndata: x\n\n\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.2)
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{extra}Content-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()


async def main() -> None:
    server = Server(sys.argv[1])
    async with await asyncio.start_server(server.talk, "127.0.0.1", int(sys.argv[2])) as listening:
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
