"""A project of its own on the embedded default: real HAProxy, real MCP servers, the CLI as people type it.

Traffic runs beside every command. Ports are this stand's own, so that it runs beside a demo.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
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
        return " ".join([self.out.get("reason") or "", error.get("message", ""), error.get("detail", ""), self.said])


class Project:
    """One project directory with the environment `local` on ports of its own."""

    def __init__(self, home: Path, base_port: int) -> None:
        self.home, self.base_port = home, base_port
        inventory = home / "inventories/local"
        shutil.copytree(ROOT / "inventories/local", inventory)
        variables = inventory / "group_vars/all.yml"
        text = variables.read_text().replace('"{{ project }}/wheelhouse"', f'"{ROOT}/wheelhouse"')
        for port, offset in PORTS.items():
            text = text.replace(port, str(base_port + offset))
        variables.write_text(text)
        shutil.copytree(ROOT / "releases", home / "releases")
        (home / "mcpops.yml").write_text("default_environment: local\n")

    @property
    def state(self) -> Path:
        """The environment's private state."""
        return self.home / ".mcpops/local"

    def start(self, *argv: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command; its output is captured."""
        return subprocess.Popen(
            [str(MCPOPS), *argv, "--json"], cwd=self.home, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(environment or {})},
        )  # fmt: skip

    def run(self, *argv: str, timeout_s: float = 180) -> Ended:
        """Run a command to its end."""
        return self.end(self.start(*argv), timeout_s)

    def end(self, process: subprocess.Popen[str], timeout_s: float = 180) -> Ended:
        """Wait for a command that `start` began."""
        stdout, stderr = process.communicate(timeout=timeout_s)
        return Ended(process.returncode, json.loads(stdout) if stdout.strip() else {}, stderr)

    def release(self, name: str, **changes: Any) -> str:
        """Write a release like NEXT but for `changes` of its file's text (old=new pairs); return its name."""
        text = (self.home / "releases" / f"{NEXT}.yml").read_text().replace(f"name: {NEXT}", f"name: {name}")
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

    def last_run(self) -> dict[str, Any]:
        """The newest run with its steps."""
        newest = self.run("runs", "list").out["runs"][0]["id"]
        return self.run("runs", "show", newest).out

    def up(self) -> None:
        """Bring it up with the first release."""
        for argv in (("run", "setup"), ("deploy", FIRST, *QUICK)):
            ended = self.run(*argv)
            assert ended.code == 0, ended.error

    def down(self) -> None:
        """Leave nothing running."""
        ended = self.run("run", "teardown")
        assert ended.code == 0, ended.error
        shutil.rmtree(self.home)


class Load:
    """Traffic in a thread of its own, until the `with` block ends; then `samples` is all of it."""

    def __init__(self, project: Project, rate_per_s: float = 40.0) -> None:
        cafile = project.state / "ca/ca.crt"
        where = Endpoint.of("127.0.0.1", project.base_port, "time.local.test", cafile)
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


def new_project(base_port: int) -> Project:
    """Make a project in a directory with a short path: unix sockets have 108 bytes."""
    return Project(Path(tempfile.mkdtemp(prefix="mcpops-e2e-")), base_port)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a command as the OOM killer does, and collect it."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
