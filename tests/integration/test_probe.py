"""The probe against servers that behave and servers that do not."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mcpops.hostside.probe import Target, probe
from mcpops.hostside.state import HostError
from mcpops.tls.ca import CertificateAuthority

TOOLS = [{"name": "b", "inputSchema": {"type": "object"}}, {"name": "a", "inputSchema": {}, "description": "changes"}]


class Server:
    """An MCP server whose answers a test chooses: `replies` maps a method to a function of its params."""

    def __init__(self) -> None:
        self.stream = False
        self.status = 200
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.replies: dict[str, Callable[[dict], Any]] = {
            "initialize": lambda _: {"protocolVersion": "2025-11-25", "serverInfo": {"name": "s", "version": "3"}},
            "tools/list": lambda _: {"tools": TOOLS},
            "tools/call": lambda params: {"content": [{"type": "text", "text": params["name"]}]},
        }
        self.raw: bytes | None = None

    def answer(self, message: dict) -> bytes:
        if self.raw is not None:
            return self.raw
        result = self.replies[message["method"]](message.get("params", {}))
        key = "error" if isinstance(result, dict) and "code" in result else "result"
        text = json.dumps({"jsonrpc": "2.0", "id": message["id"], key: result})
        notice = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})
        if self.stream:
            return f": hello\r\n\r\nevent: message\r\ndata: {notice}\r\n\r\nid: 1\r\ndata: {text}\r\n\r\n".encode()
        return text.encode()


@contextmanager
def running(server: Server, certificate: Path | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.seen.append((message["method"], dict(self.headers)))
            self.reply(
                202 if "id" not in message else server.status, server.answer(message) if "id" in message else b""
            )

        def do_DELETE(self) -> None:
            server.seen.append(("DELETE", dict(self.headers)))
            self.reply(200, b"")

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream" if server.stream else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Mcp-Session-Id", "green.1")
            self.send_header("X-Mcpops-Slot", "green")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            http.socket = context.wrap_socket(http.socket, server_side=True)
            http.handle_error = lambda *_: None  # a client that does not like the certificate hangs up
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{http.server_port}/mcp"
        http.shutdown()
        thread.join(5)


def failing(target: Target) -> HostError:
    with pytest.raises(HostError) as caught:
        probe(target)
    return caught.value


@pytest.mark.parametrize("stream", [False, True], ids=["json", "event stream"])
def test_a_whole_session_in_both_answer_forms(stream):
    server = Server()
    server.stream = stream
    with running(server) as url:
        saw = probe(Target(url, preview_token="t0ken", canary={"tool": "a", "arguments": {"x": 1}}))
    assert saw["server"] == {"name": "s", "version": "3"}
    assert (saw["protocol"], saw["tools"], saw["slot"], saw["session_id_prefix"]) == (
        "2025-11-25",
        ["a", "b"],
        "green",
        "green",
    )
    assert (saw["canary"]["ok"], saw["canary"]["saw"]) == (True, "a")
    methods = [method for method, _ in server.seen]
    assert methods == ["initialize", "notifications/initialized", "tools/list", "tools/call", "DELETE"]
    assert {headers["X-Mcpops-Preview"] for _, headers in server.seen} == {"t0ken"}
    assert "t0ken" not in repr(Target(url, preview_token="t0ken"))
    assert all(headers["Mcp-Session-Id"] == "green.1" for _, headers in server.seen[1:])


def test_the_digest_of_tools_is_about_schemas_not_order_or_prose():
    server = Server()
    with running(server) as url:
        first = probe(Target(url))["tools_sha256"]
        server.replies["tools/list"] = lambda _: {"tools": [{**TOOLS[1], "description": "other"}, TOOLS[0]]}
        assert probe(Target(url))["tools_sha256"] == first
        server.replies["tools/list"] = lambda _: {"tools": [TOOLS[0], {"name": "a", "inputSchema": {"type": "null"}}]}
        assert probe(Target(url))["tools_sha256"] != first


def test_pages_are_followed_but_not_for_ever():
    server = Server()
    pages = {None: {"tools": TOOLS[:1], "nextCursor": "2"}, "2": {"tools": TOOLS[1:]}}
    server.replies["tools/list"] = lambda params: pages[params.get("cursor")]
    with running(server) as url:
        assert probe(Target(url))["tools"] == ["a", "b"]
        server.replies["tools/list"] = lambda _: {"tools": [], "nextCursor": "again"}
        assert "more than" in failing(Target(url)).message


@pytest.mark.parametrize(
    "result", [{"content": [], "isError": True}, {"code": -32602, "message": "no such tool"}], ids=["tool", "protocol"]
)
def test_a_canary_that_fails_is_seen_not_raised(result):
    server = Server()
    server.replies["tools/call"] = lambda _: result
    with running(server) as url:
        saw = probe(Target(url, canary={"tool": "a"}))
    assert saw["canary"]["ok"] is False
    assert server.seen[-1][0] == "DELETE", "the session is ended all the same"


def test_what_is_wrong_is_told():
    server = Server()
    with running(server) as url:
        server.status = 500
        assert (failing(Target(url)).name, failing(Target(url)).exit_code) == ("http", 1)
        server.status = 200
        server.raw = b"<html>"
        assert failing(Target(url)).name == "protocol"
        server.raw = b'{"jsonrpc": "2.0", "id": 77, "result": {}}'
        assert "never came" in failing(Target(url)).message
        server.raw = None
        server.replies["initialize"] = lambda _: {"code": -32602, "message": "Unsupported protocol version"}
        assert "Unsupported" in failing(Target(url)).detail
        server.replies["tools/list"] = lambda _: {"tools": None}
        server.replies["initialize"] = lambda _: {}
        assert "without a list" in failing(Target(url)).message


def test_nobody_there_is_unknown():
    error = failing(Target("http://127.0.0.1:1/mcp"))
    assert (error.name, error.exit_code) == ("unreachable", 3)


@pytest.mark.parametrize("url", ["ftp://x/", "127.0.0.1:80", "https:///mcp"])
def test_a_url_that_is_none(url):
    assert failing(Target(url)).exit_code == 2


class TestTls:
    """The certificate is checked as a client does, against the name and the authority."""

    @pytest.fixture
    def authority(self, tmp_path: Path) -> CertificateAuthority:
        return CertificateAuthority.ensure(tmp_path / "ca", "test CA")

    def test_right(self, authority, tmp_path):
        with running(Server(), authority.issue("s", ["s.test"], tmp_path).combined) as url:
            assert probe(Target(url, str(authority.cafile), "s.test"))["tools"] == ["a", "b"]

    def test_wrong_name(self, authority, tmp_path):
        with running(Server(), authority.issue("s", ["s.test"], tmp_path).combined) as url:
            assert failing(Target(url, str(authority.cafile), "other.test")).name == "tls"

    def test_wrong_authority(self, authority, tmp_path):
        other = CertificateAuthority.ensure(tmp_path / "other", "other CA")
        with running(Server(), authority.issue("s", ["s.test"], tmp_path).combined) as url:
            assert failing(Target(url, str(other.cafile), "s.test")).name == "tls"

    def test_no_such_authority(self, tmp_path):
        assert failing(Target("https://127.0.0.1:1/", str(tmp_path / "none.crt"))).name == "tls"
