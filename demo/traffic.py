"""Open-loop load that never retries: what ordinary users of the service see while it is switched.

`Traffic` sends `rate_per_s` requests a second whatever the answers do (an overloaded server cannot slow it down and
so hide its failures), from many source addresses, a tenth of them on new TLS connections, the rest on kept ones.
Each request leaves one `Sample` with monotonic and wall-clock times, so that "the last request that the old slot
answered after this moment" can be read off afterwards. Streams held open are in `demo.streams`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from demo.http1 import Answer, Connection, Endpoint, RequestFailed

SLOT_HEADER = "x-mcpops-slot"
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
MCP_HEADERS = (("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream"))


@dataclass(frozen=True)
class Shape:
    """One kind of request, and what counts as its answer: a status, and optionally a text within the body."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200
    contains: bytes = b""

    def fault(self, answer: Answer) -> str | None:
        """None if the answer is the expected one, else the failure's kind: 5xx, or the unexpected status."""
        if answer.status == self.status and self.contains in answer.body:
            return None
        return "5xx" if answer.status >= 500 else f"status {answer.status}"


def get(path: str) -> Shape:
    """A GET that must be answered 200."""
    return Shape("GET", path)


def ping_without_session(path: str = "/mcp") -> Shape:
    """A POST to a stateful MCP endpoint that opens nothing there.

    Servers of SDK 1.x and 2.x (mcp-proxy 0.13 among them) answer a ping outside of any session 400 with "Missing
    session ID" and keep no session. It is the one POST that follows the active slot and leaks nothing.
    """
    return Shape("POST", path, PING, MCP_HEADERS, status=400, contains=b"Missing session ID")


def ping_stateless(path: str = "/mcp") -> Shape:
    """A POST that a stateless MCP endpoint (mcp-proxy --stateless) answers 200."""
    return Shape("POST", path, PING, MCP_HEADERS, contains=b'"result"')


def loopback_sources(count: int, block: int = 40) -> tuple[str, ...]:
    """`count` addresses 127.0.`block`.2 and on: each its own client to a limit by address, on loopback only."""
    return tuple(f"127.0.{block + i // 250}.{i % 250 + 2}" for i in range(count))


@dataclass(frozen=True)
class Plan:
    """What to send: `shapes` in turn (GET, POST: half each), from `sources` in turn (empty: any address)."""

    endpoint: Endpoint
    shapes: tuple[Shape, ...]
    rate_per_s: float = 200.0
    fresh_every: int = 10
    sources: tuple[str, ...] = ()
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. `*_at_ns` are wall clock, `due_ns`/`started_ns`/`ended_ns` monotonic; fault None means answered."""

    due_ns: int
    started_ns: int
    ended_ns: int
    started_at_ns: int
    ended_at_ns: int
    method: str
    fresh: bool
    slot: str
    fault: str | None
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """The whole story of one load: counts, kinds of failures, latencies in milliseconds, and every sample."""

    samples: tuple[Sample, ...]
    idle_closed: int
    cpu_s: float
    wall_s: float
    sent: int = field(init=False)
    failed: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sent", len(self.samples))
        object.__setattr__(self, "failed", sum(1 for s in self.samples if s.fault))

    def kinds(self) -> dict[str, int]:
        """Failures by kind: "POST kept eof" and so on."""
        bad = (s for s in self.samples if s.fault)
        return dict(Counter(f"{s.method} {'new' if s.fresh else 'kept'} {s.fault}" for s in bad))

    def slots(self) -> dict[str, int]:
        """Answered requests by slot ("" when the answer named none)."""
        return dict(Counter(s.slot for s in self.samples if s.fault is None))

    def to_json(self) -> dict[str, object]:
        """Counts and percentiles without the samples."""
        return {
            "sent": self.sent,
            "failed": self.failed,
            "kinds": self.kinds(),
            "slots": self.slots(),
            "idle_closed": self.idle_closed,
            "latency_ms": latency_ms(self.samples),
            "cpu_share": round(self.cpu_s / self.wall_s, 3) if self.wall_s else 0.0,
        }


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile of `values`; 0.0 when there are none. `share` is 0..1."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def latency_ms(samples: Iterable[Sample]) -> dict[str, float]:
    """p50, p90, p99 and max in milliseconds from the moment each request was due (no coordinated omission)."""
    took = [(s.ended_ns - s.due_ns) / 1e6 for s in samples if s.fault is None]
    points = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "max": 1.0}
    return {name: round(percentile(took, share), 1) for name, share in points.items()}


def last_old_ms(samples: Iterable[Sample], old: str, after_at_ns: int, before_at_ns: int) -> tuple[float, float]:
    """How long after `after_at_ns` (wall clock) the slot `old` still served: (sent, answered) in milliseconds.

    `sent` is when the last such request left the client, `answered` when its answer was read: the truth, when the
    slot received it, lies between. 0.0 when it served none. Only requests sent before `before_at_ns` count.
    """
    mine = [s for s in samples if s.slot == old and after_at_ns <= s.ended_at_ns and s.started_at_ns < before_at_ns]
    sent = max((s.started_at_ns for s in mine), default=after_at_ns)
    answered = max((s.ended_at_ns for s in mine), default=after_at_ns)
    return max(0, sent - after_at_ns) / 1e6, (answered - after_at_ns) / 1e6


class Traffic:
    """One running load. Use `start`, look at `sent` and `failed` while it runs, then `stop` for the Report."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._samples: list[Sample] = []
        self._kept: dict[str | None, list[Connection]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._began = (0.0, 0.0)
        self.idle_closed = 0
        self.failed = 0

    @property
    def sent(self) -> int:
        """Requests with an outcome so far."""
        return len(self._samples)

    @property
    def samples(self) -> Sequence[Sample]:
        """The samples so far, in order of their end."""
        return self._samples

    def start(self) -> None:
        """Begin to send; needs a running event loop."""
        self._began = (time.process_time(), time.monotonic())
        self._ticker = asyncio.create_task(self._tick())

    async def stop(self) -> Report:
        """Send no more, wait for the answers still out (at most the request timeout), close, and report."""
        if self._ticker:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        while self._tasks:
            await asyncio.wait(self._tasks)
        kept = [connection for connections in self._kept.values() for connection in connections]
        await asyncio.gather(*(connection.closed() for connection in kept))
        cpu_s, wall_s = time.process_time() - self._began[0], time.monotonic() - self._began[1]
        return Report(tuple(self._samples), self.idle_closed, cpu_s, wall_s)

    async def _tick(self) -> None:
        plan, sources = self._plan, self._plan.sources or (None,)
        origin_ns = time.monotonic_ns()
        number = 0
        while True:
            due_ns = origin_ns + int(number * 1e9 / plan.rate_per_s)
            wait_s = (due_ns - time.monotonic_ns()) / 1e9
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            # Both turns shift by one each round, so that every source and every new connection sees every shape.
            source = sources[number % len(sources)]
            turn = number // len(sources) if len(sources) > 1 else 0
            shape = plan.shapes[(number + turn) % len(plan.shapes)]
            fresh = number % plan.fresh_every == (number // plan.fresh_every) % plan.fresh_every
            self._spawn(self._one(shape, source, fresh, due_ns))
            number += 1

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, shape: Shape, source: str | None, fresh: bool, due_ns: int) -> None:
        started_ns, started_at_ns = time.monotonic_ns(), time.time_ns()
        slot, fault, detail = "", None, ""
        try:
            answer = await self._answer(shape, source, fresh)
            slot, fault = answer.headers.get(SLOT_HEADER, ""), shape.fault(answer)
            detail = answer.body[:80].decode("latin-1") if fault else ""
        except RequestFailed as failure:
            fault, detail = failure.kind, failure.detail
        self.failed += fault is not None
        ended = (time.monotonic_ns(), started_at_ns, time.time_ns())
        self._samples.append(Sample(due_ns, started_ns, *ended, shape.method, fresh, slot, fault, detail))

    async def _answer(self, shape: Shape, source: str | None, fresh: bool) -> Answer:
        connection = None if fresh else self._take(source)
        if connection is None:
            connection = await Connection.open(self._plan.endpoint, source, self._plan.timeout_s)
        connection.busy = True
        headers = (*shape.headers, ("Connection", "close")) if fresh else shape.headers
        answer = await connection.ask(shape.method, shape.path, headers, shape.body, self._plan.timeout_s)
        connection.busy = False
        if fresh or not connection.reusable:
            self._spawn(connection.closed())
        elif connection not in self._kept.setdefault(source, []):
            self._kept[source].append(connection)
        return answer

    def _take(self, source: str | None) -> Connection | None:
        kept = [c for c in self._kept.get(source, []) if c.reusable]
        closed = [c for c in kept if not c.busy and c.closed_by_peer]
        self.idle_closed += len(closed)
        for connection in closed:
            self._spawn(connection.closed())
        self._kept[source] = [c for c in kept if c not in closed]
        return next((c for c in self._kept[source] if not c.busy), None)


async def _run(plan: Plan, seconds: float) -> Report:
    traffic = Traffic(plan)
    traffic.start()
    await asyncio.sleep(seconds)
    return await traffic.stop()


def main() -> None:
    """Send a bounded load from the command line and print its report as JSON; exit 1 if a request failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="https://127.0.0.1:18443", help="scheme, address and port of the front")
    parser.add_argument("--server-name", default="localhost")
    parser.add_argument("--cafile", type=Path)
    parser.add_argument("--health", default="/status", help="path of the GET half")
    parser.add_argument("--mcp", default="/mcp", help="path of the POST half (a ping without a session)")
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--sources", type=int, default=50, help="loopback addresses to send from; 0: any")
    options = parser.parse_args()
    url = urlsplit(options.url)
    cafile = options.cafile if url.scheme == "https" else None
    endpoint = Endpoint.of(url.hostname or "127.0.0.1", url.port or 443, options.server_name, cafile)
    shapes = (get(options.health), ping_without_session(options.mcp))
    plan = Plan(endpoint, shapes, options.rate, sources=loopback_sources(options.sources))
    report = asyncio.run(_run(plan, options.seconds))
    print(json.dumps(report.to_json(), indent=2))
    raise SystemExit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
