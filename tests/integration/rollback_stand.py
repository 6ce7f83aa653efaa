"""Two real fronts, a project whose targets file names them, and an sshd of this user: what a rollback needs."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from mcpops.core.tree import tree_digest
from mcpops.model.target import Target
from mcpops.remote.targets import save_targets
from tests.integration.front_stand import Backend, FrontStand, request, self_signed, wait_for

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
NAMES = ("a", "b")


class McpBackend(Backend):
    """One slot that speaks enough MCP for a probe."""

    def start(self) -> None:
        script = str(Path(__file__).parent / "rollback_backend.py")
        self.process = subprocess.Popen([sys.executable, script, self.slot, str(self.port)])
        wait_for(f"{self.slot} answers", lambda: request(self.port, "GET", "/status")[0] == 200)


class Front(FrontStand):
    """A front whose certificate a client can check, with releases r1 (blue) and r2 (green), both verified."""

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(directory, port)
        self.backends = {"blue": McpBackend("blue", port + 1), "green": McpBackend("green", port + 2)}

    def write_files(self) -> None:
        super().write_files()
        pem = self_signed("time.local.test")
        (self.state / "front.pem").write_bytes(pem)
        (self.state / "ca.pem").write_bytes(pem.partition(b"-----BEGIN PRIVATE")[0])
        facts = json.loads((self.state / "service.json").read_text())
        (self.state / "service.json").write_text(json.dumps({**facts, "cafile": str(self.state / "ca.pem")}))
        self.stage("blue", "r1")
        self.stage("green", "r2")
        self.release("r1", "2026-11-01T00:00:00Z")
        self.release("r2", "2026-11-02T00:00:00Z")

    def release(self, name: str, verified_at: str | None, digest: str = "") -> None:
        """What `release verified` leaves behind."""
        row = {"name": name, "digest": digest or f"sha256:{name}", "verified_at": verified_at}
        (self.state / "releases" / f"{name}.json").write_text(json.dumps(row))

    def wipe(self) -> None:
        """Make it a front that is new: set up, and nothing was ever staged there."""
        self.stop_proxy()
        for backend in self.backends.values():
            backend.kill()
        for name in ("slots", "releases"):
            shutil.rmtree(self.state / name)
            (self.state / name).mkdir()
        for name in ("history.jsonl", "fence", "guard.json"):
            (self.state / name).unlink(missing_ok=True)
        (self.state / "active.map").write_text("time none\ntime.generation 0\ntime.phase steady\n")
        self.start_proxy()

    @property
    def serves(self) -> str:
        """The slot that a new client gets."""
        return self.ask()[1]


class Sshd:
    """An OpenSSH server of this user on a loopback port; its keys and known_hosts file are in `directory`."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory, self.port = directory, port
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sshd:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for name in ("host_key", "key", "other_key"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / name)]
            subprocess.run(keygen, check=True, timeout=20, stdin=subprocess.DEVNULL)
        (self.directory / "authorized_keys").write_text((self.directory / "key.pub").read_text())
        kind, key = (self.directory / "host_key.pub").read_text().split()[:2]
        (self.directory / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        (self.directory / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.directory}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {self.directory}/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            # bash would read ~/.bashrc, and what a developer has in it is nobody's business here.
            "SetEnv SHLVL=2\n"
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # what a root sshd separates its privileges with
        argv = [SSHD, "-D", "-e", "-f", str(self.directory / "sshd_config")]
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(argv, stderr=log)
        wait_for("sshd listens", lambda: b"listening" in (self.directory / "log").read_bytes())
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)

    def target(self, target: Target) -> Target:
        """The same host, reached through this server."""
        return replace(
            target,
            connection="ssh",
            port=self.port,
            user=getpass.getuser(),
            private_key_file=str(self.directory / "key"),
            known_hosts_file=str(self.directory / "known_hosts"),
        )


def target_of(name: str, stand: FrontStand) -> Target:
    """A target on this machine."""
    return Target(
        name=name,
        address="127.0.0.1",
        connection="local",
        python=sys.executable,
        hostside_path=str(stand.program),
        state_dir=str(stand.state),
    )


class TwoFronts:
    """Fronts a and b on port.. and port+10.., r1 was deployed and then r2; a project with the environment `prod`."""

    def __init__(self, directory: Path, port: int, connection: Literal["local", "ssh"] = "local") -> None:
        self.directory, self.port, self.connection = directory, port, connection
        self.stack = ExitStack()
        self.project = directory / "project"
        self.state = self.project / ".mcpops" / "prod"

    def __enter__(self) -> TwoFronts:
        (self.project / "inventories" / "prod").mkdir(parents=True)
        (self.project / "inventories" / "prod" / "hosts.yml").write_text("all: {}\n")
        with self.stack:
            self.fronts: dict[str, Front] = {}
            for index, name in enumerate(NAMES):
                (self.directory / name).mkdir()
                front = Front(self.directory / name, self.port + 10 * index)
                self.fronts[name] = self.stack.enter_context(front)
                front.activate("blue", "--reason", "cutover: r1")
                front.activate("green", "--reason", "cutover: r2", "--healthy-wait-s", "5")
            self.targets = [target_of(name, front) for name, front in self.fronts.items()]
            if self.connection == "ssh":
                sshd = self.stack.enter_context(Sshd(self.directory / "sshd", self.port + 9))
                self.targets = [sshd.target(target) for target in self.targets]
            self.save(self.targets)
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def save(self, targets: list[Target]) -> None:
        """Write the targets file as the last reading of the inventory did."""
        save_targets(self.state / "targets.json", targets, tree_digest(self.project / "inventories" / "prod"))

    def rollback(
        self, *words: str, forbid: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any], str]:
        """`mcpops rollback` as a process of its own: exit code, its JSON, what it said on stderr.

        Importing a package in `forbid` fails in it.
        """
        done = subprocess.run(
            self.command(*words, "--json", forbid=forbid), capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr

    def command(self, *words: str, forbid: tuple[str, ...] = ()) -> list[str]:
        """The command line of a rollback."""
        program = f"import sys; sys.modules.update(dict.fromkeys({forbid!r})); from mcpops.cli.app import main; "
        program += "sys.exit(main())"
        return [sys.executable, "-c", program, "rollback", "-C", str(self.project), "-e", "prod", *words]

    def records(self) -> list[dict[str, Any]]:
        """What the rollbacks wrote down, the oldest first."""
        return [json.loads(path.read_text()) for path in sorted((self.state / "rollbacks").glob("*.json"))]
