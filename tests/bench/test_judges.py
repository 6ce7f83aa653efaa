"""What the benches call held: each bar missed once, and the summary of results that are not there."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from demo.traffic import Sample
from tests.bench import cutover, faults, figures, rollback, warm_judge
from tests.bench.stand import write_json

CUTOVERS: dict[str, Any] = {
    "stack": "mcpops, a run", "cutovers": 30, "cutovers_seen": 30, "requests": 6000, "failed": 0, "streams": 50,
    "streams_refused": 0, "streams_cut": 0, "sessions": 22, "sessions_lost": 0, "notifications": 900,
    "notifications_missed": 0, "taken_back": [], "last_old_ms": {"median": 12.0, "p90": 20.0, "max": 30.0},
}  # fmt: skip
TRIAL = faults.Trial("500", 3, 0, 10.0, 10.0, 30.0, "tripped", "3 failed requests")
BACK = rollback.Trial("mcpops", 0, "", 200.0, 195.0, 250.0, 130, 0, 50, 50, 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"failed": 1}, {"streams_cut": 1}, {"streams_refused": 1}, {"sessions_lost": 1}, {"notifications_missed": 1},
        {"requests": 0}, {"streams": 0}, {"sessions": 0}, {"notifications": 0}, {"cutovers_seen": 29},
        {"taken_back": ["why"]},
        {"cutovers": 0, "cutovers_seen": 0}, {"last_old_ms": {"median": 251.0}},
        {"stack": "mcpops, on the host", "last_old_ms": {"median": 51.0}},
    ],
    ids=str,
)  # fmt: skip
def test_cutovers_hold_only_when_nothing_is_wrong_and_something_was_seen(changed: dict[str, Any]) -> None:
    assert cutover.holds(CUTOVERS)
    assert not cutover.holds({**CUTOVERS, **changed})


def test_a_client_that_sends_late_is_told_from_a_front_that_answers_late() -> None:
    in_time = [Sample(0, 1_000_000, 900_000_000, 0, 0, "GET", False, "blue", None)] * 90
    late = [Sample(0, 1_500_000_000, 1_600_000_000, 0, 0, "GET", False, "blue", None)] * 11
    assert cutover.late_ms(in_time) == 1.0
    assert cutover.late_ms([*in_time, *late]) == 1500.0 > cutover.MAX_LATE_MS


@pytest.mark.parametrize("changed", [{"failed": 6}, {"back_ms": 101.0}, {"back_ms": None}], ids=str)
def test_a_break_holds_only_when_few_failed_and_it_came_back(changed: dict[str, Any]) -> None:
    assert faults.judge(TRIAL)
    assert not faults.judge(replace(TRIAL, **changed))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"exit": 3, "said": "a: no answer"}, "exit 3: a: no answer"),
        ({"failed": 1}, "1 of 130 requests failed"),
        ({"bad_after": 2}, "2 of 50 requests after its end were answered by the bad slot"),
        ({"bad_before": 0}, "too few"),
        ({"after": 0}, "too few"),
    ],
)
def test_a_rollback_counts_only_when_it_worked(changed: dict[str, Any], said: str) -> None:
    assert rollback.problem(BACK) == ""
    assert said in rollback.problem(replace(BACK, **changed))


def sample(slot: str, sent_ms: int, answered_ms: int, fault: str | None = None) -> Sample:
    """A request; times after Enter."""
    at_ns = (sent_ms * 1_000_000, answered_ms * 1_000_000)
    return Sample(0, 0, 0, *at_ns, "GET", False, slot, fault)


def test_the_time_ends_with_the_last_answer_of_the_bad_slot() -> None:
    samples = [sample("green", 10, 12), sample("green", 190, 210), sample("blue", 205, 208), sample("blue", 300, 302)]
    trial = rollback.trial_of("mcpops", "green", samples, (0, 250_000_000), (0, ""))
    assert (trial.last_bad_sent_ms, trial.last_bad_ms) == (190.0, 210.0)
    assert (trial.bad_before, trial.after, trial.bad_after) == (2, 1, 0)
    late = rollback.trial_of("mcpops", "green", [*samples, sample("green", 400, 402)], (0, 250_000_000), (0, ""))
    assert late.bad_after == 1


def test_a_stand_holds_at_a_quarter_of_the_playbook_and_without_problems() -> None:
    peer = replace(BACK, way="playbook", last_bad_ms=800.0)
    slow = replace(BACK, way="playbook, default settings", last_bad_ms=1600.0)
    row = rollback.summary("stand", [BACK, peer, slow])
    assert row["ratios"] == {"mcpops": 1.0, "playbook": 0.25, "playbook, default settings": 0.125}
    assert rollback.holds(row)
    assert not rollback.holds(rollback.summary("stand", [BACK, replace(peer, last_bad_ms=799.0), slow]))
    assert not rollback.holds(rollback.summary("stand", [BACK, replace(peer, failed=1), slow]))
    assert "| 0.12 |" in rollback.table([row])


@pytest.fixture(autouse=True)
def one_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of the command line is measured by the command, not by these tests."""
    monkeypatch.setattr(figures, "HELP_RUNS", 1)
    monkeypatch.setattr(figures, "MAX_HELP_MS", 10_000.0)


def results(directory: Path) -> None:
    """Results that hold every bar."""
    beside = {"in_turn": ["engine", "nginx"]}
    write_json(directory / "cutover-engine.json", {**beside, "row": CUTOVERS})
    write_json(directory / "cutover-nginx.json", {**beside, "row": {**CUTOVERS, "stack": "nginx reload", "failed": 8}})
    write_json(directory / "cutover-front.json", {"row": {**CUTOVERS, "stack": "mcpops, on the host"}})
    write_json(directory / "faults.json", [asdict(replace(TRIAL, scenario=name)) for name in faults.SCENARIOS])
    others = [replace(BACK, way=way, last_bad_ms=900.0) for way in rollback.WAYS[1:]]
    write_json(directory / "rollback.json", {"rows": [rollback.summary("stand", [BACK, *others])]})
    for stand in {bar.stand for bar in warm_judge.BARS}:
        times_s = {"warm": 1.0, "mcpops": 1.05, "step": 1.0, "pyinfra": 1.0, "mitogen": 2.0, "default": 5.0}
        ways = {way: {"median_s": time_s, "rounds": 5} for way, time_s in times_s.items()}
        write_json(directory / f"warm-{stand}.json", {"row": {"stand": stand, "ways": ways, "problems": []}})


def test_the_figures_of_good_results_are_held(tmp_path: Path) -> None:
    results(tmp_path)
    rows = figures.bars(tmp_path)
    assert [row.what for row in rows if row.held is False] == []
    assert [row.what for row in rows if row.held is None] == ["peer: nginx reload"]


def test_a_peer_of_another_run_is_no_peer(tmp_path: Path) -> None:
    results(tmp_path)
    write_json(tmp_path / "cutover-nginx.json", {"in_turn": ["nginx"], "row": CUTOVERS})
    assert [row.what for row in figures.bars(tmp_path) if row.held is False] == ["peer: nginx reload"]


def test_a_slow_start_of_the_command_line_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MAX_HELP_MS", 1.0)
    assert figures.help_bar().held is False


def test_what_was_not_measured_is_not_held(tmp_path: Path) -> None:
    rows = figures.bars(tmp_path)
    assert [row.held for row in rows if "--help" not in row.what] == [False] * (7 + len(warm_judge.BARS))
    assert all("not yet: `" in row.seen for row in rows if row.held is False)
