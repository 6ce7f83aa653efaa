"""A state directory, a supervisord and a wheelhouse with one small MCP server: what slots need, without network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import yaml

from mcpops.deploy import embedded
from mcpops.deploy.release import Release, load_release
from mcpops.hostside import bundle

SERVER = Path(__file__).parent / "tinymcp.py"
PROGRAMS = Path(sys.executable).parent
COMMAND = ["tinymcp", "--host", "{address}", "--port", "{port}"]


def wheel(directory: Path, version: str) -> str:
    """Write tinymcp's wheel; return its line in a lock file."""
    info = f"tinymcp-{version}.dist-info"
    files = {
        "tinymcp.py": SERVER.read_bytes(),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tinymcp\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": b"[console_scripts]\ntinymcp = tinymcp:main\n",
    }
    rows = [f"{name},sha256={_record_sum(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    path = directory / f"tinymcp-{version}-py3-none-any.whl"
    directory.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return f"tinymcp=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _record_sum(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


class SlotStand:
    """Use it as a context: leaving it leaves no process."""

    def __init__(self, directory: Path, port: int, active: str = "none") -> None:
        self.home = directory
        self.state = directory / "state"
        self.socket = directory / "s.sock"
        self.wheelhouse = directory / "wheelhouse"
        self.ports = {"blue": port, "green": port + 1}
        self.fence = 1
        self.run_id = "run-1"
        self.uv = str(PROGRAMS / "uv")
        (self.state / "slots").mkdir(parents=True)
        (self.state / "releases").mkdir()
        (directory / "programs").mkdir()
        self.program = directory / "hostside.pyz"
        bundle.build(self.program)
        self.activate(active)
        (self.state / "slots.map").write_text("blue open\ngreen open\n")
        (self.state / "preview.map").write_text("")
        self.write_facts()

    def __enter__(self) -> SlotStand:
        config = self.home / "supervisord.conf"
        config.write_text(
            f"[supervisord]\nlogfile={self.home}/supervisord.log\npidfile={self.home}/supervisord.pid\nsilent=true\n"
            f"[unix_http_server]\nfile={self.socket}\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[include]\nfiles={self.home}/programs/*.conf\n"
        )
        embedded.start(self.home, PROGRAMS / "supervisord", config, self.socket)
        return self

    def __exit__(self, *_: object) -> None:
        embedded.stop(self.home, self.socket)
        assert embedded.processes(self.home) == []

    def activate(self, slot: str) -> None:
        (self.state / "active.map").write_text(f"tiny {slot}\ntiny.generation 1\ntiny.phase steady\n")

    def write_facts(self, driver: str = "process", **changes: Any) -> None:
        facts = {
            "service": "tiny",
            "mcp_path": "/mcp",
            "admin_socket": f"{self.home}/admin.sock",
            "maps": {name: f"{self.state}/{name}.map" for name in ("active", "slots", "preview")},
            "slots": {slot: {"address": "127.0.0.1", "port": port} for slot, port in self.ports.items()},
            "driver": driver,
            "process": {
                "socket": str(self.socket),
                "programs_dir": f"{self.home}/programs",
                "uv": self.uv,
                "wheelhouse": str(self.wheelhouse),
                "python": sys.executable,
            },
            "container": {"docker": "/usr/bin/docker"},
            "front_url": "https://127.0.0.1:1",
            "server_name": "tiny.test",
            "cafile": None,
        }
        facts["process"] |= changes
        (self.state / "service.json").write_text(json.dumps(facts))

    def release(self, name: str, *options: str, version: str = "1.0", **changes: Any) -> Release:
        """Write a release file of tinymcp and read it."""
        directory = self.home / "releases"
        directory.mkdir(exist_ok=True)
        (directory / f"tinymcp-{version}.lock").write_text(wheel(self.wheelhouse, version))
        text = {
            "name": name,
            "artifact": {"kind": "requirements", "lock": f"tinymcp-{version}.lock"},
            "command": [*COMMAND, "--version", version, *options],
            "start_timeout_s": 5,
            "stop_timeout_s": 2,
            **changes,
        }
        path = directory / f"{name}.yml"
        path.write_text(yaml.safe_dump(text))
        return load_release(path)

    def hostside(self, *argv: str, stdin: object = None, check: bool = False) -> tuple[int, dict[str, Any]]:
        """Run the program as hosts do; return exit code and answer."""
        who = ["--run", self.run_id, "--fence", str(self.fence), *(["--check"] if check else [])]
        done = subprocess.run(
            [sys.executable, "-I", str(self.program), "--state", str(self.state), *who, *argv],
            input=json.dumps(stdin),
            env={**os.environ, "UV_CACHE_DIR": str(self.home.parent / "uv-cache")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def stage(self, slot: str, release: Release, **changes: Any) -> tuple[int, dict[str, Any]]:
        return self.hostside("slot", "stage", slot, "--manifest", "-", stdin={**release.bundle(), **changes})

    def next_run(self) -> None:
        self.fence += 1
        self.run_id = f"run-{self.fence}"

    def show(self, slot: str) -> dict[str, Any]:
        return self.hostside("slot", "show", slot)[1]
