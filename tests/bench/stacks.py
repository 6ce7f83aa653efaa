"""What is compared, behind one Protocol: our front, switched by a real run or by `hostside` alone, and nginx reload."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from demo.http1 import Endpoint
from mcpops.hostside.bundle import build
from mcpops.model.target import Target
from tests.bench.stand import (
    REPOSITORY,
    SERVER_NAME,
    Server,
    haproxy_program,
    make_certificate,
    nginx_program,
    wait_until_served,
)
from tests.integration.front_stand import render

SERVICE = "bench"
SLOTS = ("blue", "green")


@dataclass(frozen=True)
class CutoverTimes:
    """Wall clock in nanoseconds: when it was decided to switch, and when the command said it was done."""

    intent_at_ns: int
    switched_at_ns: int


class Switch(Protocol):
    """Whatever moves the traffic from one slot to the other: `hostside`, the whole of `mcpops`, a peer."""

    async def switch(self, to: str) -> CutoverTimes:
        """Make `to` the active slot; returns when the command is done. Raises when it says it failed."""
        ...


class Stack(ABC):
    """Two bench servers and something in front of them on `port`; blue is active after `start`."""

    name = ""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.servers = {slot: Server(slot, port + 1 + i, directory) for i, slot in enumerate(SLOTS)}
        self.cafile, self._pem = make_certificate(directory)
        self.endpoint = Endpoint.of("127.0.0.1", port, SERVER_NAME, self.cafile)
        self.active = "blue"

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(server.start() for server in self.servers.values()))
        try:
            await self.start_front()
            await wait_until_served(self.endpoint, "/healthz")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_front()
        for server in self.servers.values():
            server.stop()

    @abstractmethod
    async def start_front(self) -> None: ...

    @abstractmethod
    async def stop_front(self) -> None: ...

    @abstractmethod
    async def switch(self, to: str) -> CutoverTimes: ...

    async def settle(self) -> str:
        """End whatever watch the switch began, before the next one; why it took the switch back, or nothing."""
        return ""


class HostsideFailed(Exception):
    """A hostside command ended with another exit code than 0: its exit code and output."""

    def __init__(self, exit_code: int, output: dict[str, Any]) -> None:
        super().__init__(f"exit {exit_code}: {json.dumps(output)[:500]}")
        self.exit_code, self.output = exit_code, output


class FrontStack(Stack):
    """HAProxy with the template of role `front`, switched by `hostside serve` over an open channel."""

    name = "mcpops, on the host"

    def __init__(self, directory: Path, port: int, guard_s: int = 30) -> None:
        super().__init__(directory, port)
        self.state = directory / "state"
        self.state.mkdir(mode=0o700)
        self._guard_s = guard_s
        self._proxy: subprocess.Popen[bytes] | None = None
        self._channel: asyncio.subprocess.Process | None = None
        self.generation = 0

    async def start_front(self) -> None:
        """Render the role's template, start HAProxy as its master and worker, open the channel, activate blue."""
        program = self.directory / "hostside.pyz"
        build(program)
        self._write_state()
        with (self.directory / "haproxy.log").open("ab") as log:
            argv = [str(haproxy_program()), "-W", "-f", "haproxy.cfg"]
            self._proxy = subprocess.Popen(argv, cwd=self.state, stdout=log, stderr=log)
        self._channel = await asyncio.create_subprocess_exec(
            sys.executable, "-I", str(program), "--state", str(self.state), "serve",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        end = time.monotonic() + 20
        while not (await self.call("status")).get("in_sync") and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await self._activate("blue", 0)

    async def stop_front(self) -> None:
        """Close the channel and stop the proxy."""
        if self._channel and self._channel.stdin:
            self._channel.stdin.close()
            await self._channel.wait()
        if self._proxy:
            self._proxy.terminate()
            self._proxy.wait(10)

    async def call(self, *words: str) -> dict[str, Any]:
        """One command over the channel; its output. Raises HostsideFailed."""
        if not (self._channel and self._channel.stdin and self._channel.stdout):
            raise AssertionError("the channel is not open")
        argv = ["--run", "bench", "--fence", "1", *words]
        self._channel.stdin.write(json.dumps({"id": 1, "argv": argv}).encode() + b"\n")
        line = await asyncio.wait_for(self._channel.stdout.readline(), 30)
        answer = json.loads(line)
        if answer["exit"]:
            raise HostsideFailed(answer["exit"], answer["output"])
        return dict(answer["output"])

    async def switch(self, to: str) -> CutoverTimes:
        """Activate `to` with the guard armed, as a deploy does."""
        intent_at_ns = time.time_ns()
        output = await self._activate(to, self._guard_s)
        self.active = to
        return CutoverTimes(intent_at_ns, int(output["switched_at_ns"]))

    async def settle(self) -> str:
        """End the bake: the guard sees that the phase moved on and ends by itself."""
        try:
            await self.call("front", "settle", "--generation", str(self.generation))
        except HostsideFailed as failed:
            if failed.output["error"]["name"] != "stale":
                raise
            verdict = await self.call("front", "verdict", "--generation", str(self.generation))
            await self.refresh()
            return str(verdict["why"])
        return ""

    async def refresh(self) -> None:
        """Take the active slot and the generation from `status` (the guard may have moved them)."""
        status = await self.call("status")
        self.active, self.generation = str(status["active"]), int(status["generation"])

    async def _activate(self, slot: str, guard_s: int) -> dict[str, Any]:
        words = ["--slot", slot, "--generation", str(self.generation + 1), "--expect", str(self.generation)]
        guard = ["--guard-s", str(guard_s)] if guard_s else []
        output = await self.call("front", "activate", *words, *guard, "--reason", "bench")
        self.generation += 1
        return output

    def _write_state(self) -> None:
        slots = {slot: {"address": "127.0.0.1", "port": server.port} for slot, server in self.servers.items()}
        pem = self.state / "front.pem"
        shutil.copy(self._pem, pem)
        variables = {
            "front_service": SERVICE, "front_state_dir": str(self.state), "front_port": self.port,
            "front_certificate": str(pem), "front_slots": slots, "front_health_path": "/healthz",
        }  # fmt: skip
        (self.state / "haproxy.cfg").write_text(render(variables))
        (self.state / "active.map").write_text(f"{SERVICE} none\n{SERVICE}.generation 0\n{SERVICE}.phase steady\n")
        (self.state / "slots.map").write_text("blue open\ngreen open\n")
        (self.state / "preview.map").write_text("")
        facts = {
            "service": SERVICE, "mcp_path": "/mcp", "admin_socket": str(self.state / "admin.sock"),
            "maps": {name: str(self.state / f"{name}.map") for name in ("active", "slots", "preview")},
            "slots": slots, "driver": "process", "process": None, "container": None,
            "front_url": f"https://127.0.0.1:{self.port}", "server_name": SERVER_NAME, "cafile": str(self.cafile),
        }  # fmt: skip
        (self.state / "service.json").write_text(json.dumps(facts))
        for name in ("slots", "releases"):
            (self.state / name).mkdir()
        for slot in SLOTS:
            staged = {"release": {"name": f"r-{slot}"}, "staged_at": "2026-11-24T00:00:00Z", "run": "bench"}
            (self.state / f"slots/{slot}.json").write_text(json.dumps({**staged, "verified_at": None}))


class EngineStack(FrontStack):
    """The same front, switched by whole runs: lease, journalled intent, channel, cutover, bake, journalled outcome."""

    name = "mcpops, a run"

    def __init__(self, directory: Path, port: int, bake_s: float = 1.0) -> None:
        super().__init__(directory, port)
        self._bake_s = bake_s
        self._orchestrator: asyncio.subprocess.Process | None = None

    async def start_front(self) -> None:
        """Start the front, and the control node beside it."""
        await super().start_front()
        target = Target(
            name="front", address="127.0.0.1", connection="local", python=sys.executable,
            hostside_path=str(self.directory / "hostside.pyz"), state_dir=str(self.state),
        )  # fmt: skip
        self._orchestrator = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.orchestrator", str(self.directory / "journal/journal.sqlite"),
            json.dumps(asdict(target)), cwd=REPOSITORY,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def stop_front(self) -> None:
        """End the control node, then the front."""
        if self._orchestrator and self._orchestrator.stdin:
            self._orchestrator.stdin.close()
            await self._orchestrator.wait()
        await super().stop_front()

    async def switch(self, to: str) -> CutoverTimes:
        """Begin a run; returns once its cutover is concluded. The bake goes on until `settle`."""
        if not (self._orchestrator and self._orchestrator.stdin):
            raise AssertionError("the control node is not running")
        self._orchestrator.stdin.write(json.dumps({"slot": to, "bake_s": self._bake_s}).encode() + b"\n")
        said = await self._said()
        if "ended" in said:
            raise AssertionError(f"the run ended without a cutover: {said}")
        self.active = to
        return CutoverTimes(said["intent_at_ns"], said["switched_at_ns"])

    async def settle(self) -> str:
        """Wait for the end of the run."""
        said = await self._said()
        await self.refresh()
        return "" if said["ended"] == "done" else str(said["reason"])

    async def _said(self) -> dict[str, Any]:
        if not (self._orchestrator and self._orchestrator.stdout):
            raise AssertionError("the control node is not running")
        line = await asyncio.wait_for(self._orchestrator.stdout.readline(), 30)
        if not line:
            raise AssertionError("the control node ended; what it said stands above")
        return dict(json.loads(line))


NGINX_CONF = """\
worker_processes 1;
pid nginx.pid;
error_log error.log warn;
events { worker_connections 2048; }
http {
  access_log off;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  upstream blue  { server 127.0.0.1:@BLUE@;  keepalive 32; }
  upstream green { server 127.0.0.1:@GREEN@; keepalive 32; }
  # Sessions are pinned as ours are, so that the reload is the only difference.
  map $http_mcp_session_id $slot { ~^blue\\. blue; ~^green\\. green; default @ACTIVE@; }
  map $http_mcp_session_id $bare { ~^[a-z]+\\.(?<id>.*)$ $id; default ""; }
  map $upstream_http_mcp_session_id $named { "" ""; default "$slot.$upstream_http_mcp_session_id"; }
  server {
    listen 127.0.0.1:@PORT@ ssl;
    ssl_certificate front.pem; ssl_certificate_key front.pem;
    keepalive_timeout 75s; keepalive_requests 100000;
    location / {
      proxy_pass http://$slot;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host localhost:@BLUE@;
      proxy_set_header Mcp-Session-Id $bare;
      proxy_buffering off;
      proxy_read_timeout 3600s;
      proxy_hide_header Mcp-Session-Id;
      add_header Mcp-Session-Id $named always;
      add_header X-Mcpops-Slot $slot always;
    }
  }
}
"""


class NginxStack(Stack):
    """The peer: the active slot stands in nginx's configuration, and a switch is a rewrite and a reload."""

    name = "nginx reload"

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(directory, port)
        self._prefix = directory / "nginx"
        (self._prefix / "tmp").mkdir(parents=True)
        shutil.copy(self._pem, self._prefix / "front.pem")
        self._process: subprocess.Popen[bytes] | None = None

    async def start_front(self) -> None:
        """Write the configuration for blue and start."""
        self._write("blue")
        argv = [str(nginx_program()), "-p", str(self._prefix), "-c", "nginx.conf", "-e", "error.log"]
        with (self._prefix / "out.log").open("ab") as log:
            self._process = subprocess.Popen([*argv, "-g", "daemon off;"], stdout=log, stderr=log)

    async def stop_front(self) -> None:
        """Fast shutdown; old workers end with their master's signal too."""
        if not self._process:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)

    async def switch(self, to: str) -> CutoverTimes:
        """Rewrite the configuration and signal the reload; nginx does not say when it is through."""
        intent_at_ns = time.time_ns()
        self._write(to)
        if not self._process:
            raise AssertionError("nginx is not running")
        os.kill(self._process.pid, signal.SIGHUP)
        self.active = to
        return CutoverTimes(intent_at_ns, time.time_ns())

    def _write(self, active: str) -> None:
        text = NGINX_CONF.replace("@ACTIVE@", active).replace("@PORT@", str(self.port))
        for slot, server in self.servers.items():
            text = text.replace(f"@{slot.upper()}@", str(server.port))
        temporary = self._prefix / "nginx.conf.tmp"
        temporary.write_text(text)
        temporary.replace(self._prefix / "nginx.conf")
