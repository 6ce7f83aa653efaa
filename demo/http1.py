"""A bare HTTP/1.1 client that never retries and says exactly how a request failed.

Every HTTP library retries somewhere (urllib3 and httpx on request, Go's net/http and browsers silently, on a
keep-alive connection that turns out to be closed). That hides the very failure a cutover can cause, so the load
client writes to the socket itself: one request, one answer, or one `RequestFailed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADER_LIMIT_BYTES = 64 * 1024


class RequestFailed(Exception):
    """One request without a whole answer. `kind` is connect, eof, timeout or protocol; `detail` says more."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True)
class Endpoint:
    """Where requests go: the address, the name on its certificate, and the CA to hold it against (None: plain HTTP)."""

    host: str
    port: int
    server_name: str
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, host: str, port: int, server_name: str, cafile: Path | None) -> Endpoint:
        """Build an endpoint; `cafile` None means plain HTTP. The certificate and its name are always verified."""
        tls = ssl.create_default_context(cafile=str(cafile)) if cafile else None
        return cls(host, port, server_name, tls)


@dataclass(frozen=True)
class Answer:
    """A whole answer: status, headers with lower-case names, body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One TCP (and TLS) connection; requests go one after the other, and no request is ever sent twice."""

    def __init__(self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._endpoint = endpoint
        self._reader = reader
        self._writer = writer
        self.reusable = True
        self.busy = False

    @classmethod
    async def open(cls, endpoint: Endpoint, source: str | None, timeout_s: float) -> Connection:
        """Connect from `source` (an address of this machine, None: any). Raises RequestFailed("connect")."""
        tls: dict[str, Any] = {}
        if endpoint.tls:
            tls = {"ssl": endpoint.tls, "server_hostname": endpoint.server_name, "ssl_shutdown_timeout": 1.0}
        local = (source, 0) if source else None
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(
                    endpoint.host, endpoint.port, local_addr=local, limit=HEADER_LIMIT_BYTES, **tls
                )
        except (OSError, TimeoutError) as error:
            raise RequestFailed("connect", f"{type(error).__name__}: {error}") from error
        return cls(endpoint, reader, writer)

    @property
    def closed_by_peer(self) -> bool:
        """True when the server has closed this connection while nothing was asked: not a failed request."""
        return self._reader.at_eof() or self._writer.transport.is_closing()

    async def ask(
        self, method: str, path: str, headers: tuple[tuple[str, str], ...], body: bytes, timeout_s: float
    ) -> Answer:
        """Send one request and read the whole answer. Raises RequestFailed (eof, timeout, protocol)."""
        try:
            async with asyncio.timeout(timeout_s):
                self._send(method, path, headers, body)
                status, fields = await self._head()
                return Answer(status, fields, await self._body(method, status, fields))
        except TimeoutError as error:
            raise self._failed("timeout", f"no whole answer within {timeout_s} s") from error
        except (asyncio.IncompleteReadError, OSError) as error:  # ssl.SSLError is an OSError
            raise self._failed("eof", f"{type(error).__name__}: {error}") from error
        except (ValueError, asyncio.LimitOverrunError) as error:
            raise self._failed("protocol", f"{type(error).__name__}: {error}") from error

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the raw chunks of an open event stream until the server ends it; ends quietly at EOF or RST."""
        try:
            while True:
                size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
                chunk = await self._reader.readexactly(size + 2)
                if size == 0:
                    return
                yield chunk[:-2]
        except (asyncio.IncompleteReadError, OSError, ValueError):
            return

    async def open_stream(self, path: str, headers: tuple[tuple[str, str], ...], timeout_s: float) -> Answer:
        """GET an event stream: returns once its head is there; read on with `events`. Raises RequestFailed."""
        try:
            async with asyncio.timeout(timeout_s):
                self._send("GET", path, headers, b"")
                status, fields = await self._head()
        except TimeoutError as error:
            raise self._failed("timeout", f"no stream within {timeout_s} s") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            raise self._failed("eof", f"{type(error).__name__}: {error}") from error
        if status == 200 and fields.get("transfer-encoding", "").lower() != "chunked":
            raise self._failed("protocol", "the stream is not chunked")
        return Answer(status, fields, b"")

    def close(self) -> None:
        """Close without waiting for the peer."""
        self.reusable = False
        self._writer.close()

    async def closed(self) -> None:
        """Close, and wait until it is (TLS: at most a second)."""
        self.close()
        with contextlib.suppress(OSError, TimeoutError):
            await self._writer.wait_closed()

    def _failed(self, kind: str, detail: str) -> RequestFailed:
        self.reusable = False
        self._writer.transport.abort()
        return RequestFailed(kind, detail)

    def _send(self, method: str, path: str, headers: tuple[tuple[str, str], ...], body: bytes) -> None:
        host = f"{self._endpoint.server_name}:{self._endpoint.port}"
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        self._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def _head(self) -> tuple[int, dict[str, str]]:
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ", 2)
        if not version.startswith("HTTP/1."):
            raise ValueError(f"not HTTP: {first[:80]!r}")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        if version == "HTTP/1.0" or fields.get("connection", "").lower() == "close":
            self.reusable = False
        return int(status), fields

    async def _body(self, method: str, status: int, fields: dict[str, str]) -> bytes:
        if method == "HEAD" or status in (204, 304) or 100 <= status < 200:
            return b""
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks()
        if "content-length" in fields:
            return await self._reader.readexactly(int(fields["content-length"]))
        self.reusable = False  # the body ends with the connection: a cut cannot be told from an end
        return await self._reader.read()

    async def _chunks(self) -> bytes:
        parts = []
        while True:
            size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
            parts.append((await self._reader.readexactly(size + 2))[:-2])
            if size == 0:
                return b"".join(parts)
