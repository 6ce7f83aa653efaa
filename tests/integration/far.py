"""An sshd of our own on a loopback port, for tests of plays over real ssh."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcpops.ansible import private
from mcpops.ansible.play import PlayCall
from mcpops.core import proc

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))


@dataclass
class Far:
    """An sshd, and a project whose inventory leads to it."""

    root: Path
    run_id: str
    private: list[Path]  # the private directories of its attempts: control sockets are in them

    def call(self, tasks: str, timeout_s: float = 120.0) -> PlayCall:
        text = f"- name: step\n  hosts: far\n  gather_facts: false\n  tasks:\n{tasks}"
        return PlayCall(
            name="step",
            play=text,
            tree=self.root / "tree",
            inventory=self.root / "hosts.ini",
            run_id=self.run_id,
            attempt=1,
            fence=1,
            timeout_s=timeout_s,
        )

    def masters(self) -> list[int]:
        """Return the ssh processes of this run's control sockets, the multiplexing masters too.

        A master names its socket on its command line and nothing else; other runs of this machine have others.
        """
        sockets = [f"{root}/".encode() for root in self.private]
        return [pid for pid in proc.pids() if ssh_of(command(pid), sockets)]


def ssh_of(line: bytes, sockets: list[bytes]) -> bool:
    return b"ssh" in line[:40] and any(root in line for root in sockets)


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def eventually(holds: Callable[[], bool], within_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{otherwise} after {within_s:g} s"
        time.sleep(0.05)


@pytest.fixture
def roots(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The private directories that plays make from now on."""
    made: list[Path] = []
    create = private.create

    def remember(marker: str) -> Path:
        made.append(create(marker))
        return made[-1]

    monkeypatch.setattr(private, "create", remember)
    return made


@pytest.fixture
def far(tmp_path: Path, roots: list[Path]) -> Iterator[Far]:
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True, timeout=20)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "user.pub",
        "PidFile": tmp_path / "pid",
        "StrictModes": "no",  # pytest's directories are not what sshd wants
        "UsePAM": "no",
        "PasswordAuthentication": "no",
    }
    (tmp_path / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in config.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    public = (tmp_path / "host.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    arguments = f"-F none -o UserKnownHostsFile={tmp_path}/known_hosts"
    (tmp_path / "hosts.ini").write_text(
        f"far ansible_host=127.0.0.1 ansible_port={port} ansible_user={getpass.getuser()} "
        f"ansible_ssh_private_key_file={tmp_path}/user ansible_ssh_common_args='{arguments}' "
        f"ansible_python_interpreter={sys.executable}\n"
    )
    (tmp_path / "tree" / "playbooks").mkdir(parents=True)
    shutil.copy(Path(__file__).parents[2] / "ansible.cfg", tmp_path / "tree")
    with subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=subprocess.DEVNULL) as d:
        try:
            eventually(lambda: _answers(port), 10, "sshd does not answer")
            yield Far(tmp_path, f"ssh-{os.getpid()}-{time.monotonic_ns()}", roots)
        finally:
            for pid in [*proc.descendants(d.pid), d.pid]:
                os.kill(pid, signal.SIGTERM)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
