"""When the guard trips, and what it says when it cannot know."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mcpops.hostside.guard import Sample, crowded, judge, read_verdict, rebase, started
from mcpops.hostside.state import Context


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (Sample(0, 0, down=False), Sample(0, 0, down=False), ""),
        (Sample(0, 0, down=False), Sample(2, 0, down=False), ""),
        (Sample(0, 0, down=False), Sample(3, 0, down=False), "3 failed requests"),
        (Sample(100, 0, down=False), Sample(102, 0, down=False), ""),
        (Sample(0, 0, down=False), Sample(0, 0, down=True), "the proxy took it out"),
        (Sample(0, 0, down=True), Sample(0, 0, down=True), ""),
    ],
)
def test_the_verdict_of_one_sample(before: Sample, now: Sample, said: str) -> None:
    assert judge(before, 5, now, 0) == said


def test_open_requests_count_only_when_they_stay() -> None:
    before, many = Sample(0, 0, down=False), Sample(0, 36, down=False)
    assert not crowded(5, Sample(0, 35, down=False))
    assert crowded(5, many)
    assert judge(before, 5, many, 4) == "", "a machine that stood still for a moment"
    assert judge(before, 5, many, 5) == "36 requests in flight, 5 before the switch"


def test_a_reload_and_a_late_start_are_compared_anew() -> None:
    assert rebase(Sample(100, 0, down=False), Sample(1, 0, down=False)) == Sample(0, 0, down=False)
    assert rebase(Sample(1, 0, down=True), Sample(1, 0, down=False)) == Sample(1, 0, down=False)
    assert rebase(Sample(1, 0, down=True), Sample(1, 0, down=True)) == Sample(1, 0, down=True)


def verdict(directory: Path, **record: object) -> tuple[str, str]:
    (directory / "guard.json").write_text(json.dumps({"generation": 4, "why": "because", **record}))
    answer = read_verdict(Context(directory), 4)
    return answer["verdict"], answer["why"]


def test_nobody_watched_is_unknown(tmp_path: Path) -> None:
    assert read_verdict(Context(tmp_path), 4)["verdict"] == "unknown"
    (tmp_path / "guard.json").write_text(json.dumps({"generation": 3, "verdict": "passed"}))
    assert read_verdict(Context(tmp_path), 4)["verdict"] == "unknown"


def test_a_guard_that_was_killed_is_unknown(tmp_path: Path) -> None:
    me = started(os.getpid())
    assert verdict(tmp_path, verdict="running", pid=os.getpid(), pid_started=me)[0] == "running"
    assert verdict(tmp_path, verdict="running", pid=os.getpid(), pid_started="1")[0] == "unknown"
    assert verdict(tmp_path, verdict="running", pid=4_000_000, pid_started="1")[0] == "unknown"
    assert verdict(tmp_path, verdict="passed", pid=4_000_000, pid_started="1") == ("passed", "because")


def test_a_guard_that_tells_and_ends_while_it_is_asked_has_told(tmp_path, monkeypatch):
    """Its record was read while it ran, its process was looked for when it had ended."""
    running = {"generation": 4, "verdict": "running", "pid": 2**22 + 1, "pid_started": "1"}
    told = iter([running, {**running, "verdict": "passed"}])
    monkeypatch.setattr("mcpops.hostside.guard.read_json", lambda _: next(told))
    assert read_verdict(Context(tmp_path), 4)["verdict"] == "passed"
