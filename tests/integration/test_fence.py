"""The fence of plays, on a real sshd: who lost the right to act gets no command through, and none goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mcpops.ansible import fence
from mcpops.ansible.play import PlayCall, run_play
from mcpops.core import proc
from mcpops.core.errors import Fenced
from mcpops.model.outcome import Outcome
from tests.integration.far import SSHD, Far, command, eventually

pytestmark = pytest.mark.skipif(SSHD is None, reason="not on this machine: sshd")
LOW, HIGH = 1_700_000_000_001, 1_700_000_000_002
NOBODY = threading.Event()


@pytest.fixture
def scope(tmp_path):
    name = f"test-{tmp_path.name}-{os.getpid()}"
    yield name
    for path in (Path("~").expanduser() / fence.HOME).glob(f"{name}*"):
        shutil.rmtree(path)


def tasks(*lines: str) -> str:
    return "".join(f"    - ansible.builtin.shell: {json.dumps(line)}\n" for line in lines)


def call(far: Far, scope: str, text: str, number: int = LOW, **more) -> PlayCall:
    return replace(far.call(text), scope=scope, fence=number, **more)


def play(call: PlayCall):
    return run_play(call, lambda _result: None, NOBODY)


def test_a_host_that_has_seen_a_higher_fence_refuses_a_lower_one(far, scope, tmp_path):
    effect = tmp_path / "effect"
    assert play(call(far, scope, tasks(f"echo high >> {effect}"), HIGH)).outcome is Outcome.CHANGED

    with pytest.raises(Fenced) as caught:
        play(call(far, scope, tasks(f"echo low >> {effect}"), LOW))

    assert str(HIGH) in caught.value.detail
    assert play(call(far, scope, tasks(f"echo again >> {effect}"), HIGH)).outcome is Outcome.CHANGED
    assert effect.read_text().split() == ["high", "again"]


def test_another_scope_has_a_fence_of_its_own(far, scope):
    assert play(call(far, scope, tasks("true"), HIGH)).outcome.good
    assert play(call(far, f"{scope}-b", tasks("true"), LOW)).outcome.good


HIDDEN = """\
    - ansible.builtin.shell: echo low >> {effect}
      failed_when: false
      ignore_errors: true
      ignore_unreachable: true
    - block:
        - ansible.builtin.raw: echo low >> {effect}
      rescue:
        - ansible.builtin.shell: echo low >> {effect}
"""


def test_a_play_that_ignores_all_errors_cannot_ignore_the_fence(far, scope, tmp_path):
    effect = tmp_path / "effect"
    play(call(far, scope, tasks("true"), HIGH))

    with pytest.raises(Fenced):
        play(call(far, scope, HIDDEN.format(effect=effect), LOW))

    assert not effect.exists()


@pytest.mark.parametrize("pipelining", ["True", pytest.param("False", marks=pytest.mark.slow)])
def test_a_command_under_way_ends_when_a_higher_fence_comes_and_nothing_follows(far, scope, tmp_path, pipelining):
    effect, began = tmp_path / "effect", tmp_path / "began"
    slow = tasks(f"touch {began}; sleep 20; echo low >> {effect}", f"echo low >> {effect}")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(play, call(far, scope, slow, environment={"ANSIBLE_PIPELINING": pipelining}))
        eventually(began.exists, 20, "the slow command runs")
        assert play(call(far, scope, tasks(f"echo high >> {effect}"), HIGH)).outcome is Outcome.CHANGED
        seen = [pid for pid in proc.pids() if str(began).encode() in command(pid) and proc.alive(pid)]
        with pytest.raises(Fenced):
            first.result(30)

    assert seen == [], "the successor waited until the other command was gone"
    assert effect.read_text().split() == ["high"]


def test_a_command_that_cannot_be_ended_keeps_its_successor_waiting_and_does_not_fence_it(far, scope, tmp_path):
    """As one under a become with a password: who comes later may go on once it is gone, and is no stale run."""
    home = Path("~").expanduser() / fence.HOME / scope
    home.mkdir(parents=True)
    with subprocess.Popen(["sh", "-c", f"sleep 60 # {fence.HOME}"]) as other:
        (home / f".{LOW}.{other.pid}").touch()
        report = play(call(far, scope, tasks("true"), HIGH))
        other.kill()

    assert report.outcome is Outcome.UNREACHABLE
    assert f"a command under fence {LOW} does not end" in report.reason
    assert play(call(far, scope, tasks("true"), HIGH)).outcome.good


def test_a_lease_that_ended_stops_a_play_before_it_reaches_anybody(far, scope, tmp_path):
    effect, deadline = tmp_path / "effect", tmp_path / "deadline"
    text = tasks(f"echo one >> {effect}; sleep 3", f"echo two >> {effect}")
    fence.keep_deadline(deadline, 60.0)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(play, call(far, scope, text, deadline=deadline))
        eventually(effect.exists, 30, "the first command runs")
        fence.keep_deadline(deadline, 0.0)
        with pytest.raises(Fenced, match="may not act"):
            first.result(30)

    assert effect.read_text().split() == ["one"]


def test_a_local_task_obeys_the_fence_too(far, scope, tmp_path):
    effect = tmp_path / "effect"
    there = "    - ansible.builtin.shell: echo {word} >> {effect}\n      delegate_to: localhost\n"
    assert play(call(far, scope, there.format(word="high", effect=effect), HIGH, here=scope)).outcome.good

    with pytest.raises(Fenced):
        play(call(far, f"{scope}-b", there.format(word="low", effect=effect), LOW, here=scope))

    assert effect.read_text().split() == ["high"]


PARENT = """
import sys, threading
from pathlib import Path
from mcpops.ansible.play import PlayCall, run_play
root = Path(sys.argv[2])
run_play(PlayCall(name="step", play=sys.argv[1], tree=root / "tree", inventory=root / "hosts.ini",
    run_id=sys.argv[3], attempt=1, fence=int(sys.argv[4]), scope=sys.argv[5],
    environment={"ANSIBLE_PIPELINING": "True"}), lambda _r: None, threading.Event())
"""


def test_after_kill_9_a_pipelined_command_on_the_host_ends_by_itself(far, scope, tmp_path):
    """sshd does not hang up on a command without a terminal: the watchdog beside it does."""
    began = tmp_path / "began"
    wanted = call(far, scope, tasks(f"touch {began}; sleep 60"))
    argv = [sys.executable, "-c", PARENT, wanted.play, str(far.root), far.run_id, str(LOW), scope]
    with subprocess.Popen(argv) as parent:
        eventually(began.exists, 20, "the command runs")
        os.kill(parent.pid, signal.SIGKILL)

    def left() -> list[int]:
        return [pid for pid in proc.pids() if str(began).encode() in command(pid) and proc.alive(pid)]

    eventually(lambda: not left(), 8, "the command on the host ends")
    time.sleep(1.1)  # a watchdog's last sleep
    marks = list((Path("~").expanduser() / fence.HOME / scope).glob(".*"))
    assert marks == [], "no command says that it runs"


def test_a_rollback_raises_the_fence_of_a_service_and_stops_plays_too(far, scope, tmp_path):
    effect, began, service = tmp_path / "effect", tmp_path / "began", tmp_path / "service-fence"
    service.write_text(json.dumps({"fence": LOW, "run": "this"}))
    slow = tasks(f"touch {began}; sleep 20; echo low >> {effect}", f"echo low >> {effect}")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(play, call(far, scope, slow, beside=("/nowhere/fence", str(service))))
        eventually(began.exists, 20, "the slow command runs")
        service.write_text(json.dumps({"fence": HIGH, "run": "rollback"}))
        with pytest.raises(Fenced, match="may not act"):
            first.result(30)

    assert not effect.exists()
    local = f"    - ansible.builtin.shell: echo low >> {effect}\n      delegate_to: localhost\n"
    with pytest.raises(Fenced):
        play(call(far, f"{scope}-b", local, LOW, here=scope, beside=(str(service),)))
    assert not effect.exists()


def test_what_the_command_says_and_how_it_ends_pass_through(far, scope):
    text = tasks("echo out; echo err >&2; exit 7") + "      register: seen\n      failed_when: seen.rc != 7\n"
    text += "    - ansible.builtin.assert: {that: [seen.stdout == 'out', seen.stderr == 'err']}\n"
    text += "    - ansible.builtin.raw: exit 5\n      register: raw\n      failed_when: raw.rc != 5\n"

    assert play(call(far, scope, text)).outcome.good


def test_a_full_disk_does_not_stop_a_play(far, scope):
    """Where the number cannot be kept the journal's lease is left: a runbook that makes room must be able to run."""
    home = Path("~").expanduser() / fence.HOME
    home.mkdir(parents=True, exist_ok=True)
    (home / scope).write_text("a file where the directory should be")
    try:
        assert play(call(far, scope, tasks("true"))).outcome.good
    finally:
        (home / scope).unlink()
