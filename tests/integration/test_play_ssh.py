"""A step over real ssh, to an sshd of our own on a loopback port: what must not stay behind on either side."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator

import pytest

from mcpops.ansible.play import run_play
from mcpops.core import proc
from mcpops.model.outcome import Outcome, Result
from tests.integration.far import SSHD, Far

pytestmark = pytest.mark.skipif(SSHD is None, reason="not on this machine: sshd")


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
