"""probe: be an MCP client once, through the front or straight at a slot: initialize, tools/list, a canary call.

Standard library only. Speaks streamable HTTP, protocol version 2025-11-25, in both answer forms (JSON and event
stream), and ends its session. What it saw is data for the caller to judge; only what it could not do is an error.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mcpops.hostside.state import EXIT_FAILED, EXIT_UNKNOWN, EXIT_USAGE, Context, HostError, Outcome

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

PROTOCOL = "2025-11-25"
TIMEOUT_S = 10.0
MAX_PAGES = 100  # a server that hands out cursors for ever must not hold a deploy
MAX_ANSWER_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """Where to probe and as what: `server_name` is the TLS name (and Host) when the URL holds an address."""

    url: str
    cafile: str | None = None
    server_name: str | None = None
    preview_token: str | None = field(default=None, repr=False)
    canary: Mapping[str, Any] | None = None
    timeout_s: float = TIMEOUT_S


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--url", required=True, help="the MCP endpoint, for example https://127.0.0.1:18443/mcp")
    parser.add_argument("--cafile", help="PEM file of the CA that signed the front's certificate")
    parser.add_argument("--server-name", help="name in the certificate, when the URL holds an address")
    parser.add_argument("--timeout-s", type=float, default=TIMEOUT_S, help="for each request")
    parser.add_argument("--preview-token-stdin", action="store_true", help='read {"preview_token": ...} from stdin')
    parser.add_argument("--canary-stdin", action="store_true", help='read {"canary": {"tool", "arguments"}} from stdin')


def run(args: argparse.Namespace, context: Context) -> Outcome:
    """Probe; stdin is one JSON object with the keys that the flags announce (a token never stands in argv)."""
    del context
    given: dict[str, Any] = {}
    if args.preview_token_stdin or args.canary_stdin:
        try:
            given = json.loads(sys.stdin.read())
            wanted = [("preview_token", args.preview_token_stdin), ("canary", args.canary_stdin)]
            given = {name: given[name] for name, flag in wanted if flag}
        except (ValueError, KeyError, TypeError) as error:
            raise HostError(
                "usage", "stdin holds no JSON object of the announced keys", exit_code=EXIT_USAGE
            ) from error
    target = Target(args.url, args.cafile, args.server_name, timeout_s=args.timeout_s, **given)
    return Outcome(changed=False, data=probe(target))


def probe(target: Target) -> dict[str, Any]:
    """Run one whole session and return what was seen.

    `{"server", "protocol", "tools", "tools_sha256", "canary", "slot", "session_id_prefix", "took_ms"}`; `tools` are
    names in order, `tools_sha256` covers names and input schemas, `canary` is null when none was asked for.
    Raises HostError `unreachable` (exit 3), `tls` (1), `http` (1), `protocol` (1).
    """
    begun = time.monotonic()
    session = Session(target)
    try:
        hello = session.call(
            "initialize",
            {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": {"name": "mcpops-probe", "version": "1"}},
        )
        session.protocol = str(hello.get("protocolVersion", ""))
        session.notify("notifications/initialized")
        tools = list_tools(session)
        canary = call_canary(session, target.canary) if target.canary else None
    finally:
        session.end()
    shapes = sorted(({"name": tool["name"], "inputSchema": tool.get("inputSchema")} for tool in tools), key=_by_name)
    text = json.dumps(shapes, sort_keys=True, separators=(",", ":"))
    return {
        "server": hello.get("serverInfo", {}),
        "protocol": session.protocol,
        "tools": [shape["name"] for shape in shapes],
        "tools_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "canary": canary,
        "slot": session.slot,
        "session_id_prefix": session.session_id.partition(".")[0] if "." in session.session_id else "",
        "took_ms": _ms(begun),
    }


def list_tools(session: Session) -> list[dict[str, Any]]:
    """Return every page of tools/list."""
    tools: list[dict[str, Any]] = []
    cursor = None
    for _ in range(MAX_PAGES):
        page = session.call("tools/list", {"cursor": cursor} if cursor else {})
        if not isinstance(page.get("tools"), list):
            raise HostError("protocol", "tools/list answered without a list of tools")
        tools += page["tools"]
        cursor = page.get("nextCursor")
        if not cursor:
            return tools
    raise HostError("protocol", f"tools/list has more than {MAX_PAGES} pages")


def call_canary(session: Session, canary: Mapping[str, Any]) -> dict[str, Any]:
    """Call the canary tool; return `{"ok", "ms", "saw"}` where `saw` is the start of what it answered."""
    begun = time.monotonic()
    try:
        result = session.call("tools/call", {"name": canary["tool"], "arguments": canary.get("arguments", {})})
    except HostError as error:
        return {"ok": False, "ms": _ms(begun), "saw": f"{error.message}: {error.detail}"[:200]}
    texts = [part.get("text", "") for part in result.get("content", []) if isinstance(part, dict)]
    return {"ok": not result.get("isError", False), "ms": _ms(begun), "saw": " ".join(texts)[:200]}


class Session:
    """One MCP session over one keep-alive connection."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise HostError("usage", f"not a URL of an MCP server: {target.url}", exit_code=EXIT_USAGE)
        self.target = target
        self.path = parts.path or "/"
        name = target.server_name or parts.hostname
        # A slot reached directly gets `localhost`: the MCP SDK refuses other names on a loopback address.
        self.host = name if parts.scheme == "https" or target.server_name else "localhost"
        self.connection = _connection(parts.scheme, parts.hostname, parts.port, name, target)
        self.session_id = ""
        self.protocol = ""
        self.slot: str | None = None
        self._next_id = 0

    def call(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return its result."""
        self._next_id += 1
        message = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": dict(params)}
        for answer in self._post(message, method):
            if answer.get("id") == self._next_id:
                if "error" in answer:
                    raise HostError(
                        "protocol", f"{method} was answered with an error", detail=str(answer["error"])[:500]
                    )
                result: dict[str, Any] = answer.get("result", {})
                return result
        raise HostError("protocol", f"{method}: the answer to it never came")

    def notify(self, method: str) -> None:
        """Send a notification."""
        list(self._post({"jsonrpc": "2.0", "method": method}, method))

    def end(self) -> None:
        """End the session as the protocol wants it; a server that is gone has ended it itself."""
        try:
            if self.session_id:
                self.connection.request("DELETE", self.path, headers=self._headers())
                self.connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            self.session_id = self.session_id or ""
        finally:
            self.connection.close()

    def _headers(self) -> dict[str, str]:
        headers = {
            "Host": self.host,
            "User-Agent": "mcpops-probe/1",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        optional = {
            "Mcp-Session-Id": self.session_id,
            "MCP-Protocol-Version": self.protocol,
            "X-Mcpops-Preview": self.target.preview_token or "",
        }
        return {**headers, **{name: value for name, value in optional.items() if value}}

    def _post(self, message: Mapping[str, Any], method: str) -> Iterator[dict[str, Any]]:
        """Send one message; yield the messages of its answer. The connection is ready for the next one after."""
        try:
            self.connection.request("POST", self.path, json.dumps(message).encode(), self._headers())
            response = self.connection.getresponse()
            self.session_id = response.getheader("Mcp-Session-Id") or self.session_id
            self.slot = response.getheader("X-Mcpops-Slot") or self.slot
            body = response.read(MAX_ANSWER_BYTES)
        except ssl.SSLError as error:
            raise HostError(
                "tls",
                f"no TLS connection to {self.target.url}",
                detail=str(error),
                hint="does the certificate carry this name, and is the CA the right one?",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise HostError(
                "unreachable",
                f"{self.target.url} does not answer {method}",
                detail=str(error) or repr(error),
                exit_code=EXIT_UNKNOWN,
            ) from error
        if not 200 <= response.status < 300:
            said = body[:300].decode(errors="replace")
            raise HostError(
                "http", f"{method} was answered with HTTP {response.status}", detail=said, exit_code=EXIT_FAILED
            )
        yield from _messages(response.getheader("Content-Type") or "", body)


def _connection(scheme: str, host: str, port: int | None, name: str, target: Target) -> http.client.HTTPConnection:
    """Return a connection to `host` that asks TLS for `name`."""
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=target.timeout_s)
    try:
        context = ssl.create_default_context(cafile=target.cafile)
    except (OSError, ssl.SSLError) as error:
        raise HostError("tls", f"the CA file {target.cafile} cannot be used", detail=str(error)) from error
    return _Named(host, port, name, context, target.timeout_s)


class _Named(http.client.HTTPSConnection):
    """An HTTPS connection to an address, checked against a name."""

    def __init__(self, host: str, port: int | None, name: str, context: ssl.SSLContext, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s, context=context)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        """Connect by TCP to the address, by TLS to the name."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def _messages(content_type: str, body: bytes) -> Iterator[dict[str, Any]]:
    """Yield the JSON-RPC messages of an answer in either form."""
    text = body.decode(errors="replace")
    if content_type.startswith("text/event-stream"):
        # Event streams: events end at an empty line; the data lines of one event are one message.
        events = ("\n".join(_data_lines(event)) for event in text.replace("\r\n", "\n").split("\n\n"))
        parts = [data for data in events if data]
    else:
        parts = [text] if text.strip() else []
    for part in parts:
        try:
            message = json.loads(part)
        except ValueError as error:
            raise HostError("protocol", "an answer is not JSON", detail=part[:200]) from error
        yield from message if isinstance(message, list) else [message]


def _data_lines(event: str) -> Iterator[str]:
    """Yield the data of one event's lines."""
    for line in event.split("\n"):
        if line.startswith("data:"):
            yield line[5:].lstrip(" ")


def _by_name(shape: Mapping[str, Any]) -> str:
    """Return the sort key of a tool."""
    return str(shape["name"])


def _ms(begun: float) -> float:
    """Return the milliseconds since `begun` (monotonic seconds)."""
    return round((time.monotonic() - begun) * 1000, 1)
