"""What a run must have done to count, and what the runs say together: medians, ratios, bars."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from tests.bench.warm_stand import Took
from tests.bench.warm_ways import BIN, DATA, WAYS, Place, environment

TASKS = len(yaml.safe_load((DATA / "roles/baseline/tasks/main.yml").read_text()))
HANDLERS = len(yaml.safe_load((DATA / "roles/baseline/handlers/main.yml").read_text()))
FIRST_CHANGES = 27
"""What the role changes on a new host: all but the two that a lab host has already and the five that only ask, and
the handler."""
PYINFRA_FIRST_CHANGES = 28
"""The same, and a file that pyinfra makes before its block."""

STEP = "step"  # stands in tables beside the ways; it is a part of one
# PLAY RECAP's line of a host; and the last line of pyinfra's table, with a dash for none.
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
_TOTAL = re.compile(r"^\s*Grand total\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s*$", re.MULTILINE)
_RUN = re.compile(r"^done: run (\S+)", re.MULTILINE)
_TOLD = 1500


@dataclass(frozen=True)
class Trial:
    """One timed run; `problem` says why it counts for nothing, and is empty when it counts."""

    way: str
    wall_s: float
    control_cpu_s: float
    host_cpu_s: float
    other_cpu_s: float
    problem: str
    state: str = ""
    step_s: float = 0.0  # of that, the one step of mcpops, as its record has it


@dataclass(frozen=True)
class Expected:
    """What a run must report: on these hosts, the first run or one that finds nothing to change."""

    hosts: tuple[str, ...]
    first: bool

    @property
    def changes(self) -> int:
        """How many tasks change something on each host."""
        return FIRST_CHANGES if self.first else 0


def problem(name: str, took: Took, expected: Expected, place: Place) -> str:
    """Why a run did not do what it should; empty when it did."""
    way = WAYS[name]
    if took.exit:
        return f"exit {took.exit}: {took.said[-_TOLD:]}"
    if took.left:
        return f"left running: {', '.join(took.left)}"
    if way.says == "pyinfra":
        return pyinfra_problem(took.said, expected)
    if way.says == "mcpops":
        return mcpops_problem(took.said, expected, place)
    return ansible_problem(took.said, expected, facts=way.facts)


def ansible_problem(said: str, expected: Expected, *, facts: bool) -> str:
    """Judge by the recap: every host, every task, no failure, and as many changes as there must be."""
    ok = TASKS + facts + (HANDLERS if expected.first else 0)
    wanted = dict.fromkeys(expected.hosts, (ok, expected.changes, 0, 0))
    seen = {host: tuple(map(int, numbers)) for host, *numbers in _RECAP.findall(said)}
    if seen == wanted:
        return ""
    return f"ok, changed, unreachable, failed: expected {wanted}, found {seen}: {said[-_TOLD:]}"


def pyinfra_problem(said: str, expected: Expected) -> str:
    """Judge by the last line of the table: operations of all hosts, done, failed, nothing to do."""
    found = _TOTAL.findall(said)
    if not found:
        return f"no grand total: {said[-_TOLD:]}"
    count, changed, failed, _ = (0 if word == "-" else int(word) for word in found[-1])
    wanted = (PYINFRA_FIRST_CHANGES if expected.first else 0) * len(expected.hosts)
    if count and (changed, failed) == (wanted, 0):
        return ""
    return f"of {count} operations {changed} changed and {failed} failed, expected {wanted} and 0: {said[-_TOLD:]}"


def mcpops_problem(said: str, expected: Expected, place: Place) -> str:
    """Judge by the record, asked for after the run: state, and each host's results."""
    step = recorded_step(said, place)
    if step is None:
        return f"no run that is done: {said[-_TOLD:]}"
    counts = {host: [0, 0, 0] for host in expected.hosts}
    for result in step["results"]:
        counts[result["host"]][["ok", "changed"].index(result["outcome"]) if result["outcome"] != "failed" else 2] += 1
    handlers = HANDLERS if expected.first else 0
    wanted = {host: [TASKS + handlers - expected.changes, expected.changes, 0] for host in expected.hosts}
    return "" if counts == wanted else f"ok, changed, failed: expected {wanted}, recorded {counts}"


def recorded_step(said: str, place: Place) -> dict[str, Any] | None:
    """Return the one step of the run that mcpops said is done, as the record has it."""
    found = _RUN.search(said)
    if not found:
        return None
    argv = [str(BIN / "mcpops"), "runs", "show", found[1], "--json", "-e", "bench", "-C", str(place.project)]
    shown = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, env=environment({}))
    step: dict[str, Any] = json.loads(shown.stdout)["steps"][0]
    return step


@dataclass(frozen=True)
class Bar:
    """One requirement: ours takes at most `limit` of the peer's time. The peer may be another of ours."""

    stand: str
    ours: str
    peer: str
    limit: float


BARS = (
    Bar("1", "warm", "default", 0.25),
    Bar("1", "warm", "mitogen", 0.65),
    Bar("1", "warm", "pyinfra", 1.10),
    Bar("1", STEP, "warm", 1.10),
    Bar("1", "mcpops", "warm", 1.10),
    Bar("fresh", "warm", "default", 0.40),
    Bar("5", "warm", "default", 0.20),
    Bar("20", "warm", "default", 0.25),
)


def summary(stand: str, title: str, trials: Sequence[Trial]) -> dict[str, Any]:
    """Medians of each way, what was wrong, and by how much the rest of the machine disturbed."""
    ways = {}
    for name in dict.fromkeys(trial.way for trial in trials):
        mine = [trial for trial in trials if trial.way == name]
        walls = [trial.wall_s for trial in mine]
        ways[name] = {
            "rounds": len(mine),
            "median_s": round(median(walls), 3),
            "min_s": round(min(walls), 3),
            "max_s": round(max(walls), 3),
            "control_cpu_s": round(median(trial.control_cpu_s for trial in mine), 3),
            "host_cpu_s": round(median(trial.host_cpu_s for trial in mine), 3),
        }
    steps = [trial.step_s for trial in trials if trial.step_s]
    if steps:
        spread = dict(zip(("median_s", "min_s", "max_s"), (median(steps), min(steps), max(steps)), strict=True))
        ways[STEP] = {"rounds": len(steps), **{key: round(value, 3) for key, value in spread.items()}}
    problems = [f"{trial.way}: {trial.problem}" for trial in trials if trial.problem] + differences(trials)
    noise = median(trial.other_cpu_s / trial.wall_s for trial in trials)
    return {"stand": stand, "title": title, "ways": ways, "problems": problems, "other_cores": round(noise, 2)}


def differences(trials: Sequence[Trial]) -> list[str]:
    """Ways that left another state than the first of them, and the first line that differs."""
    stated = [trial for trial in trials if trial.state]
    found = {}
    for trial in stated[1:]:
        if trial.state != stated[0].state:
            lines = set(trial.state.splitlines()) ^ set(stated[0].state.splitlines())
            found[trial.way] = f"{trial.way} and {stated[0].way} differ in what they left: {sorted(lines)[:4]}"
    return list(found.values())


def ratio(row: Mapping[str, Any], ours: str, peer: str) -> float | None:
    """Median by median; None when one of them was not run."""
    ways = row["ways"]
    return ways[ours]["median_s"] / ways[peer]["median_s"] if ours in ways and peer in ways else None


def verdicts(row: Mapping[str, Any]) -> Iterator[tuple[Bar, float | None, bool]]:
    """Each bar of this stand, the ratio seen, and whether it is held: never with a problem in the run."""
    for bar in BARS:
        if bar.stand == row["stand"]:
            seen = ratio(row, bar.ours, bar.peer)
            yield bar, seen, seen is not None and seen <= bar.limit and not row["problems"]


def holds(row: Mapping[str, Any]) -> bool:
    """Nothing wrong, and every bar held whose two ways were run."""
    return not row["problems"] and all(held for _, seen, held in verdicts(row) if seen is not None)


def table(row: Mapping[str, Any]) -> str:
    """The row of one stand as Markdown: the ways, the bars, and what was wrong."""
    lines = [
        f"**{row['title']}** (beside it, others took {row['other_cores']:.2f} of a core)",
        "",
        "| way | what it is | rounds | wall s med / min / max | of default | control CPU s | host CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, seen in row["ways"].items():
        spread = " / ".join(f"{seen[key]:.2f}" for key in ("median_s", "min_s", "max_s"))
        share = ratio(row, name, "default")
        note = "of that, the step as its record has it" if name == STEP else WAYS[name].note
        cells = (name, note, seen["rounds"], spread, "-" if share is None else f"{share:.3f}")
        cpu = [f"{seen[key]:.2f}" if key in seen else "" for key in ("control_cpu_s", "host_cpu_s")]
        lines.append(f"| {' | '.join(map(str, (*cells, *cpu)))} |")
    lines += ["", "| bar | wanted | seen | held |", "|---|---|---|---|"]
    for bar, share, held in verdicts(row):
        seen_text = "not measured" if share is None else f"{share:.3f}"
        verdict = "yes" if held else "-" if share is None else "NO"
        lines.append(f"| {bar.ours} / {bar.peer} | <= {bar.limit} | {seen_text} | {verdict} |")
    return "\n".join([*lines, "", *(f"PROBLEM: {text}" for text in row["problems"])])


def bars(results: Path) -> Iterator[tuple[str, str, str, bool | None]]:
    """Rows for `make bench-figures`: what, wanted, seen, held. What was not measured is not held."""
    for stand in dict.fromkeys(bar.stand for bar in BARS):
        path = results / f"warm-{stand}.json"
        row = json.loads(path.read_text())["row"] if path.exists() else {"stand": stand, "ways": {}, "problems": []}
        for bar, seen, held in verdicts(row):
            told = "not yet: `make bench-warm`"
            if seen is not None:
                mine, rounds = row["ways"][bar.ours]["median_s"], row["ways"][bar.ours]["rounds"]
                told = f"{seen:.3f} ({mine:.2f} s, median of {rounds}; {len(row['problems'])} problems)"
            yield f"{TITLES[stand]}: {bar.ours} against {bar.peer}", f"<= {bar.limit} of its time", told, held


TITLES = {
    "1": f"{TASKS} tasks, one host, no change",
    "fresh": f"{TASKS} tasks, one new host, first run",
    "5": f"{TASKS} tasks, 5 hosts, no change",
    "20": f"{TASKS} tasks, 20 hosts, no change",
}
