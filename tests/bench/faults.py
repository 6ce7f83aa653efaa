"""The new slot breaks right after the switch: `python -m tests.bench.faults RESULTS_DIR`.

Three ways to break, several times each, under load: it answers 500, it is killed (kill -9), it becomes slow (2 s).
Nobody orders the way back: the front's bake phase and the guard on the host must find it themselves. README.md beside
this file says what each column means.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from demo.traffic import Sample, Traffic, percentile
from tests.bench.cutover import Load, plan_of
from tests.bench.stacks import FrontStack
from tests.bench.stand import write_json

SCENARIOS = ("500", "kill", "slow")
SLOW_S = 2.0
OBSERVE_S = 2.5
MAX_FAILED = 5
MAX_BACK_MS = {"500": 100.0, "kill": 100.0, "slow": 500.0}
"""Bars of the project's third issue: 5 failed requests; back on the old slot in 100 ms, in 500 ms when it is slow."""


@dataclass(frozen=True)
class Trial:
    """One break, in milliseconds from the break: `back` for clients, `durable` on disk; None: it never came back."""

    scenario: str
    failed: int
    slow: int
    last_failure_ms: float
    back_ms: float | None
    durable_ms: float | None
    verdict: str
    why: str


def judge(trial: Trial) -> bool:
    """True when the trial holds the bars. A trial that never came back does not."""
    back = trial.back_ms
    return trial.failed <= MAX_FAILED and back is not None and back <= MAX_BACK_MS[trial.scenario]


def last_ms(samples: Iterable[Sample], broke_at_ns: int) -> float:
    """When the last of these requests was sent, in milliseconds after the break; 0.0 when there are none."""
    return max((max(0, s.started_at_ns - broke_at_ns) / 1e6 for s in samples), default=0.0)


async def durable_ms(stack: FrontStack, old: str, broke_at_ns: int) -> float | None:
    """Wait until the map on disk names the old slot again; None after the time to observe."""
    words = f"bench {old}"
    while time.time_ns() - broke_at_ns < OBSERVE_S * 1e9:
        if words in (stack.state / "active.map").read_text().splitlines():
            return (time.time_ns() - broke_at_ns) / 1e6
        await asyncio.sleep(0.005)
    return None


def break_slot(stack: FrontStack, slot: str, scenario: str) -> None:
    """Break a slot now."""
    if scenario == "kill":
        stack.servers[slot].kill()
    else:
        stack.servers[slot].fault("500" if scenario == "500" else f"slow {SLOW_S}")


async def try_once(stack: FrontStack, traffic: Traffic, scenario: str) -> Trial:
    """Switch, break, watch, and read off the samples what clients saw."""
    old, new = stack.active, "green" if stack.active == "blue" else "blue"
    first = len(traffic.samples)
    await stack.switch(new)
    generation = stack.generation
    broke_at_ns = time.time_ns()
    break_slot(stack, new, scenario)
    durable = await durable_ms(stack, old, broke_at_ns)
    verdict = await stack.call("front", "verdict", "--generation", str(generation), "--wait-s", "1")
    # Slow answers come late: give those under way their time before the samples are read.
    await asyncio.sleep(max(0.0, OBSERVE_S - (time.time_ns() - broke_at_ns) / 1e9))
    mine = [s for s in traffic.samples[first:] if s.ended_at_ns >= broke_at_ns]
    bad = [s for s in mine if s.fault]
    slow = [s for s in mine if s.fault is None and s.ended_ns - s.started_ns > SLOW_S * 0.9e9]
    still_there = [s for s in mine if s.started_at_ns > broke_at_ns + (OBSERVE_S - 0.5) * 1e9 and s.slot == new]
    back = None if still_there else last_ms([*bad, *slow, *(s for s in mine if s.slot == new)], broke_at_ns)
    story = (str(verdict.get("verdict")), str(verdict.get("why", "")))
    return Trial(scenario, len(bad), len(slow), last_ms(bad, broke_at_ns), back, durable, *story)


async def mend(stack: FrontStack) -> None:
    """Bring both slots back to health, and wait until the proxy has seen it."""
    await stack.refresh()
    for server in stack.servers.values():
        server.fault("")
        if not server.running:
            await server.start()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        status = await stack.call("status")
        if all(slot["healthy"] for slot in status["slots"].values()):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the slots did not become healthy again within 20 s")


async def run(scenarios: Iterable[str], repetitions: int, load: Load, port: int, guard_s: int = 5) -> list[Trial]:
    """All trials; a stack of its own for each scenario. `guard_s` 0 leaves the front alone: the negative control."""
    trials: list[Trial] = []
    for scenario in scenarios:
        with tempfile.TemporaryDirectory(prefix="mb-") as directory:
            async with FrontStack(Path(directory), port, guard_s) as stack:
                traffic = Traffic(plan_of(stack, load))
                traffic.start()
                await asyncio.sleep(1.0)
                for _ in range(repetitions):
                    trial = await try_once(stack, traffic, scenario)
                    print(trial)
                    trials.append(trial)
                    await mend(stack)
                await traffic.stop()
    return trials


def row(scenario: str, trials: list[Trial]) -> str:
    """One line of the table."""

    def spread(values: list[float]) -> str:
        return f"{percentile(values, 0.5):.0f} / {max(values, default=0):.0f}"

    def seen(values: list[float | None]) -> str:
        never = sum(1 for v in values if v is None)
        return spread([v for v in values if v is not None]) + (f" (never: {never})" if never else "")

    mine = [t for t in trials if t.scenario == scenario]
    return " | ".join(
        [
            f"| {scenario}",
            str(len(mine)),
            spread([float(t.failed) for t in mine]),
            spread([float(t.slow) for t in mine]),
            spread([t.last_failure_ms for t in mine]),
            seen([t.back_ms for t in mine]),
            seen([t.durable_ms for t in mine]),
            ", ".join(sorted({t.verdict for t in mine})),
            f"{'yes' if mine and all(map(judge, mine)) else 'NO'} |",
        ]
    )


HEAD = (
    "| new slot | trials | failed med/max | slow med/max | last failure ms | back (clients) ms | back (disk) ms "
    "| guard | bars held |\n|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Exit 0 when every trial holds the bars, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--rate-per-s", type=float, default=200.0)
    parser.add_argument("--guard-s", type=int, default=5, help="0: without bake phase and guard, to compare")
    parser.add_argument("--port", type=int, default=18410)
    options = parser.parse_args()
    scenarios = options.scenarios.split(",")
    unknown = sorted(set(scenarios) - set(SCENARIOS))
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)} (there are {', '.join(SCENARIOS)})")
    load = Load(rate_per_s=options.rate_per_s)
    trials = asyncio.run(run(scenarios, options.repetitions, load, options.port, options.guard_s))
    write_json(options.results / "faults.json", [asdict(t) for t in trials])
    print("\n".join([HEAD, *(row(scenario, trials) for scenario in scenarios)]))
    raise SystemExit(0 if trials and all(map(judge, trials)) else 1)


if __name__ == "__main__":
    main()
