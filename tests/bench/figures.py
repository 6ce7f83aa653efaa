"""All bars that are measured, in one table: `python -m tests.bench.figures RESULTS_DIR`.

Reads what the other commands of this directory wrote, and measures the start of the command line itself. A bar whose
file is missing is not held.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.traffic import percentile
from tests.bench import cutover, faults, rollback, warm_judge
from tests.bench.stacks import EngineStack, FrontStack

MIN_CUTOVERS = 30
MAX_HELP_MS = 150.0
HELP_RUNS = 10


@dataclass(frozen=True)
class Bar:
    """One row: what must be so, what was seen, whether that holds. `held` None: a peer, beside which ours stands."""

    what: str
    wanted: str
    seen: str
    held: bool | None


def cutover_bars(name: str, row: Mapping[str, Any] | None, command: str) -> Iterator[Bar]:
    """Bars of one of our own rows."""
    what, limit_ms = f"{name}: ", cutover.MAX_LAST_OLD_MS[name]
    if row is None:
        yield Bar(f"{what}cutovers", "measured", f"not yet: `{command}`", False)
        return
    counts = ("failed", "streams_cut", "sessions_lost", "notifications_missed")
    yield Bar(
        f"{what}requests failed, streams cut, sessions lost, notifications missed",
        f"0, 0, 0, 0 in {MIN_CUTOVERS} cutovers",
        f"{', '.join(str(row[name]) for name in counts)} in {row['cutovers']}, of {row['requests']} requests; "
        f"{len(row['taken_back'])} taken back without need",
        cutover.holds(row) and row["cutovers"] >= MIN_CUTOVERS,
    )
    last = row["last_old_ms"]
    yield Bar(
        f"{what}intent to the last request on the old slot",
        f"median <= {limit_ms:.0f} ms",
        f"{last['median']:.0f} ms (p90 {last['p90']:.0f}, max {last['max']:.0f})",
        cutover.holds(row) and last["median"] <= limit_ms,
    )


def peer_bar(row: Mapping[str, Any] | None, beside: Sequence[str]) -> Bar:
    """The peer's row: no bar, and yet it must be there, from the same run."""
    wanted = "in the same run"
    if row is None or "engine" not in beside:
        return Bar("peer: nginx reload", wanted, "not yet: `make bench-cutover`", False)
    seen = f"{row['failed']} requests failed, {row['sessions_lost']} sessions lost in {row['cutovers']} cutovers"
    return Bar(f"peer: {row['stack']}", wanted, f"{seen}, median {row['last_old_ms']['median']:.0f} ms", None)


def fault_bars(trials: Sequence[Mapping[str, Any]]) -> Iterator[Bar]:
    """One bar a way to break."""
    for scenario in faults.SCENARIOS:
        mine = [faults.Trial(**trial) for trial in trials if trial["scenario"] == scenario]
        wanted = f"<= {faults.MAX_FAILED} failed, back <= {faults.MAX_BACK_MS[scenario]:.0f} ms, each time"
        if not mine:
            yield Bar(f"new slot breaks: {scenario}", wanted, "not yet: `make bench-faults`", False)
            continue
        failed, back = [float(trial.failed) for trial in mine], [trial.back_ms for trial in mine]
        times = [ms for ms in back if ms is not None]
        never = f", never back: {len(back) - len(times)}" if len(back) > len(times) else ""
        spread = f"{percentile(failed, 0.5):.0f}/{max(failed):.0f} failed, "
        spread += f"{percentile(times, 0.5):.0f}/{max(times, default=0):.0f} ms (median/max of {len(mine)}){never}"
        yield Bar(f"new slot breaks: {scenario}", wanted, spread, all(map(faults.judge, mine)))


def rollback_bars(rows: Sequence[Mapping[str, Any]]) -> Iterator[Bar]:
    """One bar a stand; against the playbook with our own settings."""
    if not rows:
        yield Bar("rollback", "measured", "not yet: `make bench-rollback`", False)
    for row in rows:
        ways = row["ways"]
        peers = [f"{way} {ways[way]['median_ms']:.0f} ms ({row['ratios'][way]:.2f}x)" for way in rollback.WAYS[1:]]
        seen = f"{ways['mcpops']['median_ms']:.0f} ms; {', '.join(peers)}; {len(row['problems'])} problems"
        yield Bar(f"rollback, {row['stand']}", f"<= {row['bar']} of the playbook", seen, rollback.holds(row))


def help_bar() -> Bar:
    """CPU time of `mcpops --help`, the best of ten runs: the rest is the machine's other work.

    Beside it, in turn with it, the least that a command line on click can take on this machine.
    """
    argv = [str(Path(sys.executable).with_name("mcpops")), "--help"]
    peer = [sys.executable, "-c", "import click"]
    pairs = [(cpu_ms(argv), cpu_ms(peer)) for _ in range(HELP_RUNS)]
    best_ms, peer_ms = (min(column) for column in zip(*pairs, strict=True))
    seen = f"{best_ms:.0f} ms; `import click` alone {peer_ms:.0f} ms"
    return Bar("`mcpops --help`, CPU", f"<= {MAX_HELP_MS:.0f} ms", seen, best_ms <= MAX_HELP_MS)


def cpu_ms(argv: Sequence[str]) -> float:
    """User and system time of one command, in milliseconds. AssertionError when it fails."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, argv
    return (usage.ru_utime + usage.ru_stime) * 1000


def bars(results: Path) -> list[Bar]:
    """All rows of the table."""

    def read(name: str, otherwise: Any) -> Any:
        path = results / name
        return json.loads(path.read_text()) if path.exists() else otherwise

    engine, host, nginx = (read(f"cutover-{name}.json", {}) for name in ("engine", "front", "nginx"))
    on_host = ".venv/bin/python -m tests.bench.cutover build/bench --stack front"
    return [
        *cutover_bars(EngineStack.name, engine.get("row"), "make bench-cutover"),
        peer_bar(nginx.get("row"), nginx.get("in_turn", ())),
        *cutover_bars(FrontStack.name, host.get("row"), on_host),
        *fault_bars(read("faults.json", [])),
        *rollback_bars(read("rollback.json", {"rows": []})["rows"]),
        *(Bar(*row) for row in warm_judge.bars(results)),
        help_bar(),
    ]


def table(rows: Sequence[Bar]) -> str:
    """The rows as a Markdown table."""
    words = {True: "yes", False: "NO", None: "-"}
    lines = ["| what | bar | seen | held |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.what} | {row.wanted} | {row.seen} | {words[row.held]} |" for row in rows)])


def main() -> None:
    """Exit 0 when every bar is held, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    rows = bars(parser.parse_args().results)
    print(table(rows))
    raise SystemExit(0 if all(row.held is not False for row in rows) else 1)


if __name__ == "__main__":
    main()
