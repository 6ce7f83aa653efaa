"""A project of its own on the embedded default: real HAProxy, real MCP servers, the CLI as people type it.

Traffic runs beside every command. Each stand has ports of its own, so that it runs beside a demo and beside others.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from demo.http1 import Endpoint
from demo.traffic import Plan, Sample, Traffic, get, ping_without_session

ROOT = Path(__file__).resolve().parents[2]
MCPOPS = Path(sys.executable).with_name("mcpops")
FIRST, NEXT = "time-2026.7.10", "time-2026.10.10"
PORTS = {"18443": 0, "18405": 1, "16379": 2, "18111": 3, "18112": 4}
QUICK = ("--bake", "1s", "--drain", "0s")
COMMAND_S = 180.0  # a deploy takes 8 s on two quiet cores; this is for slow and busy ones


@dataclass(frozen=True)
class Ended:
    """A command that ended: exit code, the object on stdout, and what it said on stderr."""

    code: int
    out: dict[str, Any]
    said: str

    @property
    def error(self) -> str:
        """Everything that a person would read about a failure."""
        error = self.out.get("error", {})
        words = [error.get(key, "") for key in ("message", "detail", "hint")]
        return " ".join([self.out.get("reason") or "", *words, self.said])


class Command:
    """A command that runs; what it says is read while it does."""

    def __init__(self, argv: list[str], cwd: Path, environment: Mapping[str, str]) -> None:
        self.argv = argv
        self.lines: list[str] = []
        self._stdout = ""
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            argv, cwd=cwd, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )  # fmt: skip
        self._readers = [threading.Thread(target=self._read_said), threading.Thread(target=self._read_out)]
        for reader in self._readers:
            reader.start()

    @property
    def run_id(self) -> str:
        """The id of the run, once the command has said it."""
        return next(line.split()[1].rstrip(":") for line in self.lines if line.startswith("run "))

    def until(self, beginning: str, within_s: float = COMMAND_S) -> None:
        """Wait until the command says a line with this beginning."""
        with self._news:
            told = self._news.wait_for(lambda: self._has(beginning) or not self._readers[0].is_alive(), within_s)
            assert told, f"{self.argv} did not say {beginning!r} within {within_s:g} s, only {self.lines}"
            assert self._has(beginning), f"{self.argv} ended and did not say {beginning!r}, only {self.lines}"

    def kill(self) -> None:
        """End it as the OOM killer does."""
        self.process.kill()
        self.end(20)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self, within_s: float = COMMAND_S) -> Ended:
        """Wait for its end."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            msg = f"{self.argv} did not end within {within_s:g} s; it said {self.lines}"
            raise AssertionError(msg) from None
        for reader in self._readers:
            reader.join(20)
        return Ended(code, json.loads(self._stdout) if self._stdout.strip() else {}, "\n".join(self.lines))

    def _has(self, beginning: str) -> bool:
        return any(line.startswith(beginning) for line in self.lines)

    def _read_said(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as said:
            for line in said:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            self._stdout = out.read()


class Project:
    """One project directory with the environment `local` on ports of its own.

    With `hosts_of` it is a second control node: a project and a journal of its own for the hosts of another one.
    `program` is the mcpops to run.
    """

    def __init__(self, home: Path, base_port: int, *, hosts_of: Project | None = None, program: Path = MCPOPS) -> None:
        self.home, self.base_port, self.program = home, base_port, program
        self.state = (hosts_of or self).home / ".mcpops/local"
        inventory = home / "inventories/local"
        shutil.copytree(ROOT / "inventories/local", inventory)
        variables = inventory / "group_vars/all.yml"
        text = variables.read_text().replace('"{{ project }}/wheelhouse"', f'"{ROOT}/wheelhouse"')
        if hosts_of:
            text = text.replace('"{{ project }}/.mcpops/local"', f'"{self.state}"')
        for port, offset in PORTS.items():
            text = text.replace(port, str(base_port + offset))
        variables.write_text(text)
        shutil.copytree(ROOT / "releases", home / "releases")
        (home / "mcpops.yml").write_text("default_environment: local\n")

    def environment(self, name: str, change: Callable[[str], str] = lambda text: text, hosts: str = "") -> str:
        """Write another environment of the same hosts, its variables changed, or its hosts; return its name."""
        inventory = self.home / "inventories" / name
        shutil.rmtree(inventory, ignore_errors=True)
        shutil.copytree(self.home / "inventories/local", inventory)
        variables = inventory / "group_vars/all.yml"
        text = change(variables.read_text())
        variables.write_text(text)
        if hosts:
            (inventory / "hosts.yml").write_text(hosts)
        return name

    def start(self, *argv: str, environment: Mapping[str, str] | None = None) -> Command:
        """Start a command."""
        return Command([str(self.program), *argv, "--json"], self.home, environment or {})

    def run(self, *argv: str, timeout_s: float = COMMAND_S, environment: Mapping[str, str] | None = None) -> Ended:
        """Run a command to its end."""
        return self.start(*argv, environment=environment).end(timeout_s)

    def text(self, *argv: str, timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        """Run a command that prints for people, or more than one object."""
        return subprocess.run(
            [str(self.program), *argv], cwd=self.home, text=True, capture_output=True, timeout=timeout_s, check=False
        )

    def release(self, name: str, **changes: Any) -> str:
        """Write a release like NEXT (or `like`) but for `replace`d and `append`ed text; return its name."""
        like = changes.get("like", NEXT)
        text = (self.home / "releases" / f"{like}.yml").read_text().replace(f"name: {like}", f"name: {name}")
        for old, new in changes.get("replace", {}).items():
            assert old in text, old
            text = text.replace(old, new)
        (self.home / "releases" / f"{name}.yml").write_text(text + changes.get("append", ""))
        return name

    def front(self) -> dict[str, Any]:
        """What the front says of itself now."""
        argv = [
            sys.executable,
            "-I",
            str(self.state / "hostside.pyz"),
            "--state",
            str(self.state / "service"),
            "status",
        ]
        return json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout)

    def serving(self) -> str | None:
        """The release that serves, as the front says."""
        return self.front()["release"]

    def other(self) -> str:
        """The good release that does not serve now."""
        return NEXT if self.serving() == FIRST else FIRST

    def shown(self, run_id: str) -> dict[str, Any]:
        """A run with its steps."""
        return self.run("runs", "show", run_id).out

    def last_run(self) -> dict[str, Any]:
        """The newest run with its steps."""
        newest = self.run("runs", "list").out["runs"][0]["id"]
        return self.shown(newest)

    def up(self) -> None:
        """Bring it up with the first release."""
        for argv in (("run", "setup"), ("deploy", FIRST, *QUICK)):
            ended = self.run(*argv)
            assert ended.code == 0, ended.error

    def down(self) -> None:
        """Leave nothing running, also after a test that failed in the middle of a run."""
        for run in self.run("runs", "list").out["runs"]:
            if run["state"] in ("running", "broken"):
                self.run("runs", "abandon", run["id"], "--yes")
        ended = self.run("run", "teardown")
        assert ended.code == 0, ended.error
        shutil.rmtree(self.home)


class Load:
    """Traffic in a thread of its own, until the `with` block ends; then `samples` is all of it."""

    def __init__(self, project: Project, rate_per_s: float = 40.0, *, verify: bool = True) -> None:
        cafile = project.state / "ca/ca.crt"
        where = Endpoint.of("127.0.0.1", project.base_port, "time.local.test", cafile)
        if where.tls and not verify:
            where.tls.check_hostname, where.tls.verify_mode = False, ssl.CERT_NONE
        self._plan = Plan(endpoint=where, shapes=(get("/status"), ping_without_session()), rate_per_s=rate_per_s)
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()), name="load")
        self.samples: tuple[Sample, ...] = ()

    async def _work(self) -> None:
        traffic = Traffic(self._plan)
        traffic.start()
        while not self._end.is_set():
            await asyncio.sleep(0.05)
        self.samples = (await traffic.stop()).samples

    def __enter__(self) -> Load:
        self._thread.start()
        time.sleep(0.5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(0.5)
        self._end.set()
        self._thread.join(timeout=30)

    @property
    def failed(self) -> list[str]:
        """What failed, one text a request; a load that sent nothing has failed too."""
        assert len(self.samples) >= 20, "the load sent next to nothing: it proves nothing"
        return [
            f"{sample.method} on {sample.slot or '?'}: {sample.fault} {sample.detail}"
            for sample in self.samples
            if sample.fault
        ]


def new_project(*, hosts_of: Project | None = None, program: Path = MCPOPS) -> Project:
    """Make a project in a directory with a short path: unix sockets have 108 bytes."""
    base_port = hosts_of.base_port if hosts_of else _free_ports()
    home = Path(tempfile.mkdtemp(prefix="mcpops-e2e-"))
    return Project(home, base_port, hosts_of=hosts_of, program=program)


def serving_project() -> Iterator[Project]:
    """Yield a project that serves the first release, and leave nothing running; the body of a fixture."""
    made = new_project()
    try:
        made.up()
        yield made
    finally:
        made.down()


def wait_for(what: Callable[[], Any], within_s: float, said: str) -> None:
    """Wait until `what` is true; fail with what was waited for."""
    until_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < until_s, f"{said}: not within {within_s:g} s"
        time.sleep(0.05)


def _free_ports() -> int:
    """Return the first of ports in a row that nobody uses; below those that the kernel gives to clients."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    start = 20_000 + worker % 2 * 5_000 + os.getpid() * 10 % 4_000
    for base in range(start, start + 1_000, 10):
        with suppress(OSError):
            for offset in PORTS.values():
                socket.create_server(("127.0.0.1", base + offset)).close()
            return base
    msg = f"no ports are free from {start} on"
    raise AssertionError(msg)
