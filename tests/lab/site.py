"""A site to operate on: two fronts and a registry of a lab, a project directory, the CLI as people type it, traffic.

The load comes from outside the hosts, by IPv4 and IPv6, and runs beside every command that may not fail a request.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mcpops.lab.ecosystem import FRONTS, SERVER_NAME, Ecosystem
from mcpops.lab.host import Host
from mcpops.lab.lab import Lab, to_stderr
from tests.e2e.stand import Ended

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FIRST, NEXT = "time-2026.7.10", "time-2026.10.10"
QUICK = ("--bake", "2s", "--drain", "0s")
CLIENTS = 6
RATE_PER_S = 12.0  # on each front in each family: 48 a second in all, a fifth of a core of the two that all share


@dataclass(frozen=True)
class Request:
    """One request as the client outside saw it; times are wall clock, in nanoseconds."""

    front: str
    family: str
    method: str
    slot: str
    fault: str | None
    detail: str
    started_at_ns: int
    ended_at_ns: int

    @classmethod
    def of(cls, row: dict[str, Any]) -> Request:
        """Return it from a row of the load program."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


class Load:
    """Traffic from outside while a `with` block runs; then `requests` is all of it."""

    def __init__(self, lab: Lab, *, timeout_s: float = 10.0) -> None:
        pairs = lab.outside.clients(CLIENTS)
        addresses = {"ipv4": [pair[0] for pair in pairs], "ipv6": [pair[1] for pair in pairs]}
        given = {
            "server_name": SERVER_NAME,
            "cafile": str(lab.directory / "ca/ca.crt"),
            "rate_per_s": RATE_PER_S,
            "timeout_s": timeout_s,
            "endpoints": [
                {"front": name, "family": family, "host": getattr(lab[name], family), "sources": sources}
                for name in FRONTS
                for family, sources in addresses.items()
            ],
        }
        self._argv = lab.outside.command([sys.executable, "-m", "tests.lab.outside_load", json.dumps(given)])
        self._timeout_s = timeout_s
        self.requests: tuple[Request, ...] = ()

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(
            self._argv, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self._process.communicate(timeout=20)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.4)  # a while after the end, too
        said, error = self._process.communicate("", timeout=self._timeout_s + 20)
        assert self._process.returncode == 0, error
        self.requests = tuple(Request.of(row) for row in json.loads(said))

    def on(self, *fronts: str) -> list[Request]:
        """Return the requests to some fronts; each must have been asked often enough, in both families."""
        found = [request for request in self.requests if request.front in fronts]
        for name in fronts:
            for family in ("ipv4", "ipv6"):
                sent = sum(1 for request in found if (request.front, request.family) == (name, family))
                assert sent >= 10, f"only {sent} requests to {name} by {family}: that proves nothing"
        return found

    def failed(self, *fronts: str) -> list[str]:
        """Return what failed on some fronts (default: all), one text a request."""
        return [
            f"{row.method} {row.front} {row.family} on {row.slot or '?'}: {row.fault} {row.detail}"
            for row in self.on(*(fronts or FRONTS))
            if row.fault
        ]

    def slots_at_the_end(self, *fronts: str) -> set[str]:
        """Return which slots answered the last ten requests of each front and family."""
        asked = sorted(self.on(*(fronts or FRONTS)), key=lambda row: row.started_at_ns)
        ends: dict[tuple[str, str], list[str]] = {}
        for row in asked:
            ends.setdefault((row.front, row.family), []).append(row.slot)
        return {slot for slots in ends.values() for slot in slots[-5:]}


class Site:
    """A lab, and a project of its own whose only environment it is."""

    def __init__(self, name: str, home: Path) -> None:
        self.home, self.name = home, name
        self.ecosystem = Ecosystem(Lab(name), home, to_stderr)
        self.lab = self.ecosystem.lab

    def up(self) -> None:
        """Bring the hosts up, bare, and write the environment."""
        self.ecosystem.down()
        shutil.copytree(ROOT / "inventories/lab/group_vars", self.home / "inventories" / self.name / "group_vars")
        self.ecosystem.up()

    def down(self) -> None:
        """Leave nothing of it."""
        for name in FRONTS:
            if name in self.lab.hosts and self.lab[name].state() == "frozen":
                self.lab[name].thaw()
        self.ecosystem.down()

    @property
    def state(self) -> Path:
        """The environment's private state."""
        return self.home / ".mcpops" / self.name

    @property
    def journal(self) -> Path:
        """The journal's database."""
        return self.home / ".mcpops/journal.sqlite"

    def start(self, *argv: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command of mcpops; its output is captured."""
        return subprocess.Popen(
            [str(BIN / "mcpops"), *argv, "-e", self.name, "--json"], cwd=self.home, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip

    def end(self, process: subprocess.Popen[str], timeout_s: float = 120) -> Ended:
        """Wait for a command that `start` began."""
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        return Ended(process.returncode, json.loads(stdout) if stdout.strip() else {}, stderr)

    def run(self, *argv: str, timeout_s: float = 120, environment: dict[str, str] | None = None) -> Ended:
        """Run a command to its end."""
        return self.end(self.start(*argv, environment=environment), timeout_s)

    def play(self, playbook: str, *arguments: str, **variables: object) -> tuple[int, str]:
        """Run a plain ansible-playbook, as somebody without mcpops does; return its code and what it said."""
        done = subprocess.run(
            [BIN / "ansible-playbook", "-i", self.home / "inventories" / self.name, playbook, *arguments,
             "-e", json.dumps(variables)],
            cwd=self.home, capture_output=True, text=True, timeout=180, check=False,
            env={
                **os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_SHOW_CUSTOM_STATS": "1",
            },
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def hostside(self, front: str, *argv: str, run: str = "", fence: int | None = None) -> tuple[int, dict[str, Any]]:
        """Run the host-side program on a front, over SSH; return its exit code and its object."""
        words = ["python3", "-I", "/usr/local/lib/mcpops/hostside.pyz", "--state", "/var/lib/mcpops/time"]
        words += ["--run", run, "--fence", str(fence)] if fence is not None else []
        done = self.lab[front].ssh(shlex.join([*words, *argv]), check=False, timeout_s=60)
        return done.returncode, json.loads(done.stdout)

    def service(self, front: str) -> dict[str, Any]:
        """The facts of the service on a front, as hostside reads them."""
        return dict(json.loads(self.lab[front].ssh("cat /var/lib/mcpops/time/service.json").stdout))

    def fence(self, front: str) -> int:
        """The highest fence that a front has seen."""
        return int(self.front(front)["fence"]["fence"])

    def front(self, name: str) -> dict[str, Any]:
        """What a front says of itself now."""
        return self.hostside(name, "status")[1]

    def serving(self, *fronts: str) -> set[tuple[str, str | None]]:
        """The slots and releases in force on the fronts: one element, where they agree."""
        states = [self.front(name) for name in fronts or FRONTS]
        for state in states:
            assert (state["in_sync"], state["phase"]) == (True, "steady"), state["activations"]
        return {(state["active"], state["release"]) for state in states}

    def release_file(self, name: str) -> dict[str, Any]:
        """The release that the lab wrote."""
        return dict(yaml.safe_load((self.ecosystem.releases / f"{name}.yml").read_text()))

    def write_release(self, name: str, like: str, **changes: object) -> str:
        """Write a release like another but for some keys, into the project; return its name."""
        path = self.home / "releases" / f"{name}.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({**self.release_file(like), "name": name, **changes}))
        return name

    @contextmanager
    def without(self, front: str, how: str) -> Iterator[Host]:
        """Take a front away: `unplugged`, `frozen` or `killed`; it is back after the block."""
        host = self.lab[front]
        away: dict[str, Callable[[], None]] = {"unplugged": host.unplug, "frozen": host.freeze, "killed": host.kill}
        back: dict[str, Callable[[], None]] = {"unplugged": host.plug, "frozen": host.thaw, "killed": host.start}
        away[how]()
        try:
            yield host
        finally:
            back[how]()
            host.wait()
            wait_for(f"{front} answers again", lambda: self.lab[front].boot_id() != "", 20)

    def agreed(self) -> bool:
        """Tell whether both fronts answer and serve the same, and no run is half-way."""
        status = self.run("status")
        phases = {front.get("phase") for front in status.out.get("fronts", {}).values()}
        halted = {run["state"] for run in status.out.get("runs", [])} & {"running", "waiting", "broken"}
        return status.code == 0 and phases == {"steady"} and not halted

    def deploy_until_bake(self, release: str) -> subprocess.Popen[str]:
        """Start a deploy with a bake of a minute, and return it once both fronts are in it."""
        process = self.start("deploy", release, "--bake", "60s", "--drain", "0s")

        def baking() -> bool:
            assert process.poll() is None, self.end(process).error
            return all(self.front(name)["phase"] == "bake" for name in FRONTS)

        try:
            wait_for("the bake on both fronts", baking, 120)
        except BaseException:
            process.kill()
            raise
        return process

    def mend(self) -> None:
        """Bring the fronts together again after a test that failed half-way."""
        runs = self.run("runs", "list").out.get("runs", [])
        for run in runs:
            if run["state"] in ("running", "waiting", "broken"):
                self.run("runs", "abandon", run["id"], "--yes")
        self.run("rollback", *([] if self.front("front1")["phase"] == "bake" else ["--sync"]))


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Return the condition's first true value; fail after a while, saying what was waited for."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)
    return value
