"""The container driver keeps the drivers' contract: real Docker on a lab host, real images from its registry."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mcpops.deploy.release import load_release
from mcpops.hostside import bundle
from tests.contract.driver_contract import DriverContract

pytestmark = pytest.mark.lab

PROGRAM = "/tmp/contract.pyz"
PORTS = {"blue": 18131, "green": 18132}
NAMES = {1: "time-2026.7.10", 2: "time-2026.10.10"}


class ContainerStand:
    """One state directory on a lab host."""

    def __init__(self, ecosystem: Any, directory: str) -> None:
        self.ecosystem = ecosystem
        self.host = ecosystem.lab["front1"]
        self.state = directory
        self.fence = 1
        slots = {slot: {"address": "127.0.0.1", "port": port} for slot, port in PORTS.items()}
        facts = {
            "service": "contract",
            "mcp_path": "/mcp",
            "admin_socket": f"{directory}/admin.sock",
            "maps": {name: f"{directory}/{name}.map" for name in ("active", "slots", "preview")},
            "slots": slots,
            "driver": "container",
            "process": None,
            "container": {"docker": "/usr/bin/docker"},
            "front_url": "https://127.0.0.1:1",
            "server_name": "x.test",
            "cafile": None,
        }
        self.host.ssh(f"mkdir -p -m 700 {directory}/slots {directory}/releases")
        self.host.put(f"{directory}/service.json", json.dumps(facts))
        self.host.put(f"{directory}/active.map", "contract none\n")
        self.host.put(f"{directory}/slots.map", "blue open\ngreen open\n")
        self.host.put(f"{directory}/preview.map", "")

    def hostside(self, *argv: str, stdin: object = None) -> tuple[int, dict[str, Any]]:
        words = f"--state {self.state} --run run-{self.fence} --fence {self.fence} {' '.join(argv)}"
        said = self.host.ssh(
            f"python3 -I {PROGRAM} {words}; code=$?; echo; echo $code", stdin=json.dumps(stdin), timeout_s=120
        ).stdout.splitlines()
        return int(said[-1]), json.loads(said[0])

    def next_run(self) -> None:
        self.fence += 1

    def good(self, number: int) -> dict[str, Any]:
        return load_release(self.ecosystem.releases / f"{NAMES[number]}.yml").bundle()

    def wrong_digest(self) -> dict[str, Any]:
        release = self.good(1)
        image = release["manifest"]["artifact"]["image"]
        release["manifest"]["artifact"]["image"] = image.partition("@")[0] + "@sha256:" + "0" * 64
        return release

    def not_starting(self) -> dict[str, Any]:
        release = self.good(1)
        release["manifest"]["command"] = ["python3", "-c", "import sys; sys.exit('no licence key')"]
        return release

    @contextmanager
    def taken_port(self, slot: str) -> Iterator[None]:
        command = f"import socket, time; s = socket.create_server(('127.0.0.1', {PORTS[slot]})); time.sleep(60)"
        pid = self.host.ssh(f'python3 -c "{command}" > /dev/null 2>&1 & echo $!; sleep 0.3').stdout.strip()
        yield
        self.host.ssh(f"kill {pid}")


class TestContainerDriver(DriverContract):
    """Real Docker."""

    @pytest.fixture
    def stand(self, ecosystem, tmp_path) -> Iterator[ContainerStand]:
        program = tmp_path / "hostside.pyz"
        bundle.build(program)
        host = ecosystem.lab["front1"]
        host.ssh(f"base64 -d > {PROGRAM}", stdin=base64.b64encode(program.read_bytes()).decode())
        stand = ContainerStand(ecosystem, f"/tmp/contract-{uuid.uuid4().hex[:8]}")
        yield stand
        for slot in PORTS:
            stand.hostside("slot", "remove", slot)
        assert host.ssh("docker ps --all --quiet --filter label=mcpops.release").stdout == ""
        host.ssh(f"rm -rf {stand.state}")

    def test_the_container_may_do_little(self, stand):
        assert self.stage(stand, "blue", stand.good(1))[0] == 0
        text = stand.host.ssh("docker inspect $(docker ps --quiet --filter label=mcpops.release)").stdout
        (seen,) = json.loads(text)
        host = seen["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (
            True,
            ["ALL"],
            ["no-new-privileges:true"],
        )
        assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (256 * 1024**2, 500_000_000, 128)
        assert (seen["Config"]["User"], host["Init"], host["RestartPolicy"]["Name"]) == (
            "10001:10001",
            True,
            "unless-stopped",
        )
        assert host["PortBindings"] == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18131"}]}
        assert "@sha256:" in seen["Config"]["Image"]
