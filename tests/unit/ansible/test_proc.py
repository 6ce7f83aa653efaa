from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpops.ansible import private
from mcpops.ansible.reap import reap
from mcpops.core import proc

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def start(started: list[subprocess.Popen[bytes]], marker: str) -> int:
    process = subprocess.Popen(SLEEP, env={"MCPOPS_ATTEMPT": marker})
    started.append(process)
    deadline = time.monotonic() + 5
    while process.pid not in proc.with_environment("MCPOPS_ATTEMPT", lambda value: value == marker):
        assert time.monotonic() < deadline, "the process does not show its marker within 5 s"
        time.sleep(0.01)
    return process.pid


@pytest.fixture
def run_id() -> str:
    return f"run-{os.getpid()}-{time.monotonic_ns()}"


def test_the_reaper_spares_a_successor_and_other_runs(
    started: list[subprocess.Popen[bytes]], run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "base_directory", lambda: tmp_path)
    old, same = start(started, f"{run_id}:6:1"), start(started, f"{run_id}:7:3")
    successor, other = start(started, f"{run_id}:8:1"), start(started, f"{run_id}x:6:1")
    broken = start(started, f"{run_id}:none:1")
    left, kept = private.create(f"{run_id}:7:3"), private.create(f"{run_id}:8:1")
    assert reap(run_id, fence=7) == 2
    assert [proc.alive(pid) for pid in (old, same)] == [False, False]
    assert [proc.alive(pid) for pid in (successor, other, broken)] == [True, True, True]
    assert (left.exists(), kept.exists()) == (False, True)
    assert reap(run_id, fence=7) == 0


def test_descendants_are_found_across_sessions(started: list[subprocess.Popen[bytes]]) -> None:
    script = "import os,subprocess,sys; subprocess.Popen(['sleep','60'], start_new_session=True).wait()"
    process = subprocess.Popen([sys.executable, "-S", "-c", script])
    started.append(process)
    deadline = time.monotonic() + 5
    while not (below := proc.descendants(process.pid)):
        assert time.monotonic() < deadline, "no child within 5 s"
        time.sleep(0.01)
    assert process.pid in proc.descendants(os.getpid())
    assert proc.kill_until_gone(lambda: [pid for pid in below if proc.alive(pid)]) == 1


def test_what_does_not_die_is_an_error_and_not_an_endless_loop() -> None:
    with pytest.raises(TimeoutError, match="still there"):
        proc.kill_until_gone(lambda: [2**22 + 1], within_s=0.05)
