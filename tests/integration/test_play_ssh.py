"""A step over real ssh, to an sshd of our own on a loopback port: what must not stay behind on either side."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcpops.ansible import private
from mcpops.ansible.play import PlayCall, run_play
from mcpops.core import proc
from mcpops.model.outcome import Outcome, Result

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
pytestmark = pytest.mark.skipif(SSHD is None, reason="not on this machine: sshd")


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


@pytest.fixture
def beside() -> Iterator[int]:
    """An ssh master of another run on this machine, as its command line shows it."""
    with subprocess.Popen(["ssh: /dev/shm/mcpops-beside/cp/0 [mux]", "60"], executable=shutil.which("sleep")) as other:
        yield other.pid
        other.kill()


def test_over_ssh_no_master_stays_and_the_socket_path_is_short_enough(far: Far, beside: int) -> None:
    masters: list[int] = []

    def on_result(_: Result) -> None:
        masters.extend(far.masters())

    report = run_play(far.call("    - ansible.builtin.ping:\n"), on_result, threading.Event())
    assert (report.outcome, report.reason) == (Outcome.OK, "")
    assert masters, "there was no control master: the connection was not kept"
    assert not [pid for pid in masters if proc.alive(pid)]
    assert far.masters() == []
    assert proc.alive(beside)


def test_an_unknown_host_key_is_refused(far: Far) -> None:
    (far.root / "known_hosts").write_text("")
    report = run_play(far.call("    - ansible.builtin.ping:\n"), lambda _: None, threading.Event())
    assert report.outcome is Outcome.UNREACHABLE
    assert "Host key verification failed" in report.reason


def test_a_timeout_over_ssh_leaves_no_ssh_here(far: Far, beside: int) -> None:
    for limit_s in (6.0, 15.0, 30.0):  # on a busy machine the first may pass before there is a connection to leave
        masters: list[int] = []
        with watching(far, masters):
            report = run_play(
                far.call("    - ansible.builtin.command: sleep 60\n", limit_s), lambda _: None, threading.Event()
            )
        assert report.outcome is Outcome.UNKNOWN
        assert far.masters() == []
        if masters:
            break
    assert masters, f"there was no control master within {limit_s:g} s"
    assert proc.alive(beside)


@contextlib.contextmanager
def watching(far: Far, masters: list[int]) -> Iterator[None]:
    """Put into `masters` what is seen meanwhile."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.2):
            masters.extend(far.masters())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
