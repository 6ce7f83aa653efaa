"""`make demo`: real servers, real clients, a deploy, a broken deploy that takes itself back, a rollback.

Everything that is shown comes from what the clients saw and from the record; nothing is scripted. Leaves nothing
running, unless --keep.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.http1 import Endpoint
from demo.record import record
from demo.sessions import SessionPlan, SessionReport, Sessions, SessionsFailed
from demo.traffic import Plan, Sample, Traffic, get, loopback_sources, ping_without_session

PROJECT = Path(__file__).resolve().parent.parent
ENVIRONMENT = "local"
RATE_PER_S = 50.0
SESSIONS_EACH = 4  # of SDK 1.x and of SDK 2.x
START_TIMEOUT_S = 120.0  # until both SDKs' sessions are open; 17 to 30 s at a load of 10 on two cores
LINGER_S = 3.0  # sessions go on for so long after a switch, then their users leave and new ones come
BROKEN_MAY_FAIL = 5  # requests, until the guard has switched back: the bar of tests/bench/faults.py
GOOD_FIRST, GOOD_NEXT, BROKEN = "time-2026.7.10", "time-2026.10.10", "time-broken"

Result = TypeVar("Result")

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Act:
    """One command of the demo, what it must exit with, and what its clients saw."""

    title: str
    argv: tuple[str, ...]
    exit_code: int
    samples: Sequence[Sample] = ()
    sessions: tuple[SessionReport, ...] = ()
    run: dict[str, Any] | None = None
    took_s: float = 0.0

    @property
    def name(self) -> str:
        """The command without its options."""
        return " ".join(word for word in self.argv[:3] if word in ("deploy", "rollback") or word.startswith("time-"))

    @property
    def failed(self) -> int:
        """Requests that failed while the command ran."""
        return sum(1 for sample in self.samples if sample.fault)

    @property
    def switch_ms(self) -> float | None:
        """Milliseconds that the switch took on the host, as the command reports it."""
        cutover = (self.run or {}).get("cutover") or {}
        return cutover.get("switch_ms")


class DemoFailed(Exception):
    """A command did not end as it must."""


class Clients:
    """The users of the service: a steady stream of requests, and sessions of two SDKs that come and go."""

    def __init__(self, where: Endpoint, url: str, cafile: Path) -> None:
        sources = loopback_sources(20)
        self._plan = Plan(
            endpoint=where, shapes=(get("/status"), ping_without_session()), rate_per_s=RATE_PER_S, sources=sources
        )
        self._pythons = (PROJECT / ".venv-mcp1/bin/python", Path(sys.executable))
        self._session = SessionPlan(
            python=Path(sys.executable), url=url, cafile=cafile, count=SESSIONS_EACH, sources=sources,
            connect_to=where.host, tool="get_current_time", arguments={"timezone": "UTC"}, call_every_s=0.5,
        )  # fmt: skip
        self._traffic = Traffic(self._plan)
        self._groups: list[Sessions] = []
        self._ended: list[SessionReport] = []

    async def start(self) -> None:
        """Begin the stream and open the first sessions."""
        self._traffic.start()
        await self._arrive()

    async def watch(self, act: Act, done: asyncio.Event) -> Act:
        """Be users while a command runs; return it with what they saw."""
        begun, seen = len(self._traffic.samples), len(self._ended)
        slot = await self._slot()
        left = False
        while not done.is_set():
            await asyncio.sleep(0.1)
            if not left and await self._slot() != slot:
                await asyncio.sleep(LINGER_S)
                await self._leave()
                await self._arrive()
                left = True
        await self._leave()
        await self._arrive()
        return replace(act, samples=self._traffic.samples[begun:], sessions=tuple(self._ended[seen:]))

    async def stop(self) -> None:
        """End everything, in whatever state it is; a group that did not start or report is no error here."""
        groups, self._groups = self._groups, []
        await asyncio.gather(*(group.stop() for group in groups), return_exceptions=True)
        await asyncio.gather(*(group.kill() for group in groups), return_exceptions=True)
        await self._traffic.stop()

    async def _slot(self) -> str:
        answered = [sample.slot for sample in self._traffic.samples[-20:] if sample.slot]
        return answered[-1] if answered else ""

    async def _arrive(self) -> None:
        self._groups = [Sessions(replace(self._session, python=python)) for python in self._pythons]
        await all_of(group.start(START_TIMEOUT_S) for group in self._groups)

    async def _leave(self) -> None:
        groups, self._groups = self._groups, []
        self._ended += await all_of(group.stop() for group in groups)


async def all_of(doing: Iterable[Awaitable[Result]]) -> list[Result]:
    """Wait until all have ended, then return what they returned, or raise the first error."""
    tasks = [asyncio.ensure_future(one) for one in doing]
    await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]


async def command(act: Act) -> Act:
    """Run an mcpops command as a person types it; its progress goes to the terminal. Raises DemoFailed."""
    console.print(f"\n[bold]{act.title}[/bold]\n[cyan]$ mcpops {' '.join(act.argv)}[/cyan]")
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("mcpops")), *act.argv, "-e", ENVIRONMENT, "-C", str(PROJECT), "--json",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        stdout, _ = await process.communicate()
    except asyncio.CancelledError:  # Ctrl-C, which the command got too: the next one must not meet it
        await process.wait()
        raise
    said = json.loads(stdout) if stdout.strip() else {}
    console.print(f"exit code {process.returncode}")
    if process.returncode != act.exit_code:
        why = json.dumps(said.get("error") or {key: said.get(key) for key in ("state", "reason")})
        raise DemoFailed(
            f"`mcpops {' '.join(act.argv)}` ended with {process.returncode}, expected {act.exit_code}: {why}"
        )
    return replace(act, run=said, took_s=time.monotonic() - begun)


async def under_load(act: Act, clients: Clients) -> Act:
    """Run a command while the clients work."""
    done = asyncio.Event()
    watching = asyncio.create_task(clients.watch(act, done))
    try:
        ended = await command(act)
    finally:
        done.set()
        await asyncio.gather(watching, return_exceptions=True)
    seen = watching.result()
    return replace(ended, samples=seen.samples, sessions=seen.sessions)


async def endpoint(scratch: Path) -> tuple[Endpoint, str, Path]:
    """Return where the service is reached: address, URL and CA, as `mcpops status` says."""
    said = await command(Act("What serves now", ("status",), 0))
    front = next(iter((said.run or {})["fronts"].values()))
    address = urlsplit(front["url"])
    cafile = scratch / "ca.crt"
    cafile.write_text(front["ca_pem"], encoding="utf-8")
    url = f"https://{front['server_name']}:{address.port}{front['mcp_path']}"
    where = Endpoint.of(str(address.hostname), address.port or 443, front["server_name"], cafile)
    return where, url, cafile


def report(acts: Sequence[Act]) -> bool:
    """Print the table, and what it does not hold of its promises; return whether all of them held."""
    table = Table(title="what the clients saw")
    for name in ("command", "exit", "took", "requests", "failed", "sessions", "lost", "calls", "switch"):
        table.add_column(name, justify="left" if name == "command" else "right")
    for act in acts:
        switch = f"{act.switch_ms:.1f} ms" if act.switch_ms is not None else "-"
        table.add_row(
            act.name, str(act.exit_code), f"{act.took_s:.1f} s", str(len(act.samples)),
            str(act.failed), str(sum(group.opened for group in act.sessions)),
            str(sum(group.lost for group in act.sessions)), str(sum(group.calls for group in act.sessions)), switch,
        )  # fmt: skip
    Console(width=110).print(table)
    for group in (group for act in acts for group in act.sessions if group.lost or group.errors):
        console.print(f"SDK {group.sdk}: {escape('; '.join(group.why[-3:]))}")
    for sample in [sample for act in acts for sample in act.samples if sample.fault][:5]:
        console.print(f"failed: {sample.method} on slot {sample.slot or '?'}: {sample.fault} {escape(sample.detail)}")
    broken = [promise for act in acts for promise in broken_promises(act)]
    for promise in broken:
        console.print(f"[red]the table does not hold what it promises:[/red] {escape(promise)}")
    return not broken


def broken_promises(act: Act) -> list[str]:
    """Return what clients saw of a command that they must not see, or what they did not do: then nothing was shown."""
    may_fail = BROKEN_MAY_FAIL if BROKEN in act.argv else 0
    wrong = [
        (not act.samples, "no request was sent"),
        (act.failed > may_fail, f"{act.failed} requests failed, of which {may_fail} may"),
        (not act.sessions, "no client held a session"),
    ]
    for group in act.sessions:
        wrong += [
            (not group.opened, f"no session of SDK {group.sdk} was opened"),
            (not group.calls, f"no session of SDK {group.sdk} made a call"),
            (group.errors > 0, f"SDK {group.sdk} could not open a session {group.errors} times"),
            (group.lost > 0, f"{group.lost} sessions of SDK {group.sdk} were lost"),
            (group.missed > 0, f"sessions of SDK {group.sdk} missed {group.missed} notifications"),
        ]
    return [f"{act.name}: {what}" for is_so, what in wrong if is_so]


async def show(scratch: Path) -> bool:
    """Play all acts; return whether the table holds. Raises DemoFailed, and SessionsFailed; no client is left then."""
    await command(
        Act("Bring the embedded default up: proxy with TLS, key-value store, supervisor", ("run", "setup"), 0)
    )
    first = ("deploy", GOOD_FIRST, "--bake", "2s", "--drain", "2s")
    await command(Act(f"Deploy {GOOD_FIRST}, the first release", first, 0))
    clients = Clients(*await endpoint(scratch))
    try:
        await clients.start()
        acts = [
            await under_load(Act(title, argv, code), clients)
            for title, argv, code in (
                (f"Deploy {GOOD_NEXT} under load",
                 ("deploy", "--blue-green", GOOD_NEXT, "--bake", "5s", "--drain", "30s"), 0),
                ("Deploy a broken release: it passes its proof, then breaks under real traffic",
                 ("deploy", BROKEN, "--bake", "10s", "--drain", "30s"), 5),
                (f"Back to {GOOD_FIRST}, as the person on call does it", ("rollback", "--to", GOOD_FIRST), 0),
            )
        ]  # fmt: skip
    finally:
        await clients.stop()
    held = report(acts)
    Console().print(
        f"\nThe record: mcpops runs list, mcpops runs show {(acts[0].run or {}).get('id')}\n"
        "Next: `make demo DEMO_ARGS=--keep` leaves it up; then `mcpops status`, `mcpops deploy ...`, docs/tutorial/"
    )
    return held


async def play(scratch: Path, *, keep: bool) -> int:
    """Play the demo and take it down, whatever came; return the exit code. `scratch` is for its own files."""
    good = False
    try:
        good = await show(scratch)
    except (DemoFailed, SessionsFailed) as error:
        failed(error)
    finally:
        if not keep:
            good = await taken_down() and good
    return 0 if good else 1


async def taken_down() -> bool:
    """Take everything down; return whether it is."""
    try:
        await command(Act("Take it down again", ("run", "teardown"), 0))
    except DemoFailed as error:
        failed(error)
        return False
    return True


def failed(error: Exception) -> None:
    """Say why the demo failed."""
    console.print(f"[red]the demo failed:[/red] {escape(str(error))}")


def main() -> None:
    """Read the arguments and play."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument("--record", type=Path, metavar="SVG", help="draw the second half of what is seen as a picture")
    arguments = parser.parse_args()
    if arguments.record:
        sys.exit(record([sys.executable, "-m", "demo.run"], arguments.record, since="Deploy a broken release"))
    with tempfile.TemporaryDirectory() as scratch:
        code = asyncio.run(play(Path(scratch), keep=arguments.keep))
    sys.exit(code)


if __name__ == "__main__":
    main()
