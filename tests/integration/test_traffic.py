"""Each counter of the load client goes up when, and only when, its fault happens: one that cannot rise is no proof."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from demo.http1 import Connection, Endpoint, RequestFailed
from demo.sessions import SessionPlan, SessionReport, Sessions, SessionsFailed
from demo.streams import Streams
from demo.traffic import Plan, Report, Sample, Shape, Traffic, get, last_old_ms, loopback_sources
from tests.bench.cutover import SDK2
from tests.bench.stand import Server, make_certificate, sdk1_python

OK = b"HTTP/1.1 200 OK\r\nX-Mcpops-Slot: blue\r\nContent-Length: 2\r\n\r\nok"
BAD = b"HTTP/1.1 500 Oh\r\nX-Mcpops-Slot: blue\r\nContent-Length: 0\r\n\r\n"
Talk = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
"""Answers request number n (from 1) of a connection."""


@contextlib.asynccontextmanager
async def served(talk: Talk, seen: Counter[str] | None = None) -> AsyncIterator[Endpoint]:
    """A server whose every answer is the test's own; counts requests by address in `seen`."""

    talks: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        talks.add(task)
        task.add_done_callback(talks.discard)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            number = 0
            while not writer.is_closing():
                await reader.readuntil(b"\r\n\r\n")
                number += 1
                if seen is not None:
                    seen[writer.get_extra_info("peername")[0]] += 1
                await talk(number, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    try:
        yield Endpoint.of("127.0.0.1", server.sockets[0].getsockname()[1], "localhost", None)
    finally:
        server.close()
        while talks:
            await asyncio.wait(talks)


async def answer_ok(number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


async def close_at_second(number: int, writer: asyncio.StreamWriter) -> None:
    """The keep-alive race as a client sees it: the request went out, and the connection ends without an answer."""
    if number == 1:
        writer.write(OK)
    else:
        writer.close()


async def reset_at_second(number: int, writer: asyncio.StreamWriter) -> None:
    if number == 1:
        writer.write(OK)
    else:
        writer.transport.abort()


async def cut_the_body(number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(OK[:-1])
    writer.close()


async def close_when_idle(number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    await asyncio.sleep(0.005)
    writer.close()


async def answer_500_at_second(number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(OK if number == 1 else BAD)


async def answer_403(number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")


async def never_answer(number: int, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(1)


async def talk_nonsense(number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(b"+PONG\r\n\r\n")


async def load(endpoint: Endpoint, seconds: float = 0.5, fresh_every: int = 1000) -> Report:
    """20 requests a second on one kept connection (fresh_every=1: all on new ones)."""
    traffic = Traffic(Plan(endpoint, (get("/"),), 20.0, fresh_every, ("127.0.40.2",), timeout_s=0.3))
    traffic.start()
    await asyncio.sleep(seconds)
    return await traffic.stop()


def report_of(talk: Talk, fresh_every: int = 1000) -> Report:
    async def go() -> Report:
        async with served(talk) as endpoint:
            return await load(endpoint, fresh_every=fresh_every)

    return asyncio.run(go())


def test_a_healthy_server_fails_nothing() -> None:
    report = report_of(answer_ok)
    assert report.failed == 0
    assert report.idle_closed == 0
    assert report.slots() == {"blue": report.sent}
    assert report.sent >= 8


def test_the_load_is_half_post_and_a_tenth_new_connections_from_all_sources() -> None:
    seen: Counter[str] = Counter()

    async def go() -> Report:
        async with served(answer_ok, seen) as endpoint:
            shapes = (get("/"), Shape("POST", "/"))
            traffic = Traffic(Plan(endpoint, shapes, 200.0, sources=loopback_sources(6)))
            traffic.start()
            await asyncio.sleep(1.0)
            return await traffic.stop()

    report = asyncio.run(go())
    assert report.failed == 0
    assert report.sent == pytest.approx(200, abs=15)
    share = {method: sum(s.method == method for s in report.samples) / report.sent for method in ("GET", "POST")}
    fresh = {method: sum(s.fresh and s.method == method for s in report.samples) for method in ("GET", "POST")}
    assert share["GET"] == pytest.approx(0.5, abs=0.02)
    assert sum(fresh.values()) / report.sent == pytest.approx(0.1, abs=0.02)
    assert min(fresh.values()) >= 8
    assert set(seen) == set(loopback_sources(6))
    assert max(seen.values()) - min(seen.values()) <= 3


@pytest.mark.parametrize(
    ("talk", "kind"),
    [
        (close_at_second, "GET kept eof"),
        (reset_at_second, "GET kept eof"),
        (answer_500_at_second, "GET kept 5xx"),
        (cut_the_body, "GET kept eof"),
        (answer_403, "GET kept status 403"),
        (never_answer, "GET kept timeout"),
        (talk_nonsense, "GET kept protocol"),
    ],
)
def test_each_fault_is_counted_as_itself_and_never_retried(talk: Talk, kind: str) -> None:
    """The first request is on a new connection and counts as new; `number` restarts with each connection."""
    report = report_of(talk)
    kinds = report.kinds()
    fault = kind.split(" ", 2)[2]
    assert report.failed > 0
    assert {name.split(" ", 2)[2] for name in kinds} == {fault}
    assert kinds[kind] >= report.failed - 1
    assert report.sent == report.failed + sum(report.slots().values())


def test_the_client_counts_exactly_what_the_server_did() -> None:
    did: Counter[str] = Counter()

    async def talk(number: int, writer: asyncio.StreamWriter) -> None:
        did["closed" if number == 2 else "answered"] += 1
        await close_at_second(number, writer)

    report = report_of(talk)
    assert (report.slots()["blue"], report.failed) == (did["answered"], did["closed"])
    assert did["closed"] >= 3


def test_an_idle_connection_closed_by_the_server_is_no_failed_request() -> None:
    report = report_of(close_when_idle)
    assert report.failed == 0
    assert report.idle_closed >= report.sent - 2


def test_new_connections_are_not_kept() -> None:
    assert report_of(close_at_second, fresh_every=1).failed == 0


def test_nobody_listening_is_a_connect_failure() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        endpoint = Endpoint.of("127.0.0.1", reserved.getsockname()[1], "localhost", None)
        report = asyncio.run(load(endpoint))
    assert report.failed == report.sent > 0
    assert {kind.rsplit(" ", 1)[1] for kind in report.kinds()} == {"connect"}


def test_a_certificate_of_another_ca_is_refused(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, _ = make_certificate(tmp_path / "ours")
    _, theirs = make_certificate(tmp_path / "theirs")

    async def go() -> str:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(theirs)
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        try:
            await Connection.open(Endpoint.of("127.0.0.1", port, "bench.local.test", ours), None, 2.0)
        except RequestFailed as failure:
            return str(failure)
        finally:
            server.close()
        return "connected"

    assert "CERTIFICATE_VERIFY_FAILED" in asyncio.run(go())


def sample(slot: str, sent_ms: int, answered_ms: int) -> Sample:
    ns = 1_000_000
    return Sample(0, 0, 0, sent_ms * ns, answered_ms * ns, "GET", False, slot, None)


def test_last_old_is_the_last_answer_of_the_old_slot_before_the_next_switch() -> None:
    samples = [sample("blue", 90, 99), sample("blue", 95, 130), sample("green", 120, 125), sample("blue", 300, 301)]
    ns = 1_000_000
    assert last_old_ms(samples, "blue", 100 * ns, 250 * ns) == (0.0, 30.0)
    assert last_old_ms(samples, "blue", 100 * ns, 999 * ns) == (200.0, 201.0)
    assert last_old_ms(samples[2:3], "blue", 100 * ns, 250 * ns) == (0.0, 0.0)


async def cut_stream(number: int, writer: asyncio.StreamWriter) -> None:
    """initialize, initialized, then a stream that ends by itself after one event; a fourth request gets no session."""
    if number == 1:
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nMcp-Session-Id: blue.1\r\n\r\n"))
    elif number == 2:
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
    else:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n: a\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()


def test_a_cut_stream_and_a_lost_session_are_counted() -> None:
    async def go() -> None:
        async with served(cut_stream) as endpoint:
            streams = Streams(endpoint, (), 3)
            await streams.start()
            assert (streams.opened, streams.cut) == (3, 0)
            await asyncio.sleep(0.3)
            assert streams.cut == 3
        report = await streams.stop()  # nobody listens any more: the last ping fails
        assert (report.opened, report.refused, report.cut, report.lost) == (3, 0, 3, 3)

    asyncio.run(go())


def test_a_stream_that_cannot_be_opened_is_refused() -> None:
    async def go() -> None:
        async with served(answer_403) as endpoint:
            streams = Streams(endpoint, (), 2)
            await streams.start()
            report = await streams.stop()
        assert (report.opened, report.refused) == (0, 2)
        assert "initialize answered 403" in report.why[0]

    asyncio.run(go())


PORT = 18450


def session_plan(python: Path, mode: str = "legacy") -> SessionPlan:
    url = f"http://127.0.0.1:{PORT}/mcp"
    return SessionPlan(python, url, None, 2, ("127.0.41.2", "127.0.41.3"), mode, call_every_s=0.2, settle_s=0.6)


@pytest.fixture(params=["1.x", "2.x"])
def python(request: pytest.FixtureRequest) -> Path:
    """A Python with either SDK."""
    return sdk1_python() if request.param == "1.x" else SDK2


def sessions_with(
    python: Path, directory: Path, *more: str, during: Callable[[Server], None] | None = None
) -> SessionReport:
    """Two sessions for a second and a half against one bench server; `during` happens in the middle of it."""

    async def go() -> SessionReport:
        server = Server("blue", PORT, directory)
        await server.start("--notify-every-s", "0.1", *more)
        try:
            sessions = Sessions(session_plan(python))
            await sessions.start()
            await asyncio.sleep(0.7)
            if during:
                during(server)
                await server.start()
            await asyncio.sleep(0.8)
            return await sessions.stop()
        finally:
            server.stop()

    return asyncio.run(go())


@pytest.mark.xdist_group("bench-port")
def test_sessions_on_a_healthy_server_lose_nothing(python: Path, tmp_path: Path) -> None:
    report = sessions_with(python, tmp_path)
    assert (report.opened, report.lost, report.errors, report.missed) == (2, 0, 0, 0), report
    assert report.calls > 6
    assert report.notes > 10


@pytest.mark.xdist_group("bench-port")
def test_a_notification_left_out_is_missed(python: Path, tmp_path: Path) -> None:
    report = sessions_with(python, tmp_path, "--skip-notification", "3")
    assert (report.lost, report.missed) == (0, 2), report  # one in each of two sessions


@pytest.mark.xdist_group("bench-port")
def test_a_stream_gone_quiet_is_missed_too(python: Path, tmp_path: Path) -> None:
    """No later number shows the gap: the last call tells how many were sent."""
    report = sessions_with(python, tmp_path, "--skip-notification", "5", "--skip-count", "100000")
    assert report.lost == 0
    assert report.missed >= 2 * 4, report


@pytest.mark.xdist_group("bench-port")
def test_a_session_dropped_by_the_server_is_lost_and_opened_again(python: Path, tmp_path: Path) -> None:
    report = sessions_with(python, tmp_path, during=Server.kill)
    assert report.lost == 2, report
    assert report.opened == 4, report


def test_sessions_that_cannot_open_say_why() -> None:
    async def go() -> None:
        plan = replace(session_plan(SDK2), url="http://127.0.0.1:1/mcp")
        await Sessions(plan).start(timeout_s=3.0)

    with pytest.raises(SessionsFailed, match=r"0 of 2 sessions open.*ConnectError"):
        asyncio.run(go())


@pytest.mark.parametrize(
    ("program", "says"),
    [("true", "0 of 2 sessions open when the worker ended"), ("nowhere", "the clients' Python does not start: ")],
)
def test_a_worker_that_ends_at_once_or_is_not_there_is_told(program: str, says: str) -> None:
    async def go() -> None:
        sessions = Sessions(session_plan(Path(shutil.which(program) or f"/bin/{program}")))
        try:
            await sessions.start()
        finally:
            await sessions.kill()

    with pytest.raises(SessionsFailed, match=says):
        asyncio.run(go())


def test_settings_are_one_json_line() -> None:
    line = session_plan(SDK2).settings()
    assert line.count(b"\n") == 1
    assert json.loads(line)["call_every_s"] == 0.2
