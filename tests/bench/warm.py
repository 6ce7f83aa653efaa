"""The warm connection beside what people have: `python -m tests.bench.warm DIR [--hosts 1] [--fresh]`, as root.

A role of 33 tasks brings lab hosts to a state, or finds them in it. The same hosts, in turns, each second round the
other way round: ansible-playbook as installed and tuned, over the warm connection, with mitogen, pyinfra, and mcpops.
README.md beside this file says what the columns mean.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.stand import REPOSITORY, write_json
from tests.bench.warm_judge import TITLES, Expected, Trial, holds, problem, recorded_step, summary, table
from tests.bench.warm_stand import Stand, hosts, state_of
from tests.bench.warm_ways import PEERS_LOCK, WAYS, Place, environment, furnish, make_peers

LAB = "benchwarm"


@dataclass(frozen=True)
class Plan:
    """What is measured on one stand, unless the command says otherwise."""

    count: int
    rounds: int
    ways: tuple[str, ...]
    first: bool = False


PLANS = {
    "1": Plan(1, 5, ("default", "tuned", "warm", "mitogen", "pyinfra", "mcpops")),
    "fresh": Plan(1, 5, ("default", "warm", "warm-cold", "mitogen", "pyinfra"), first=True),
    "5": Plan(5, 5, ("default", "tuned", "warm", "mitogen", "pyinfra")),
    # A round takes seven minutes, and of that default's four: two rounds, one each way round.
    "20": Plan(20, 2, ("default", "warm", "mitogen", "pyinfra")),
}


@contextmanager
def workplace() -> Iterator[Path]:
    """A directory for what is kept between runs. Its path is short: ssh's control sockets come below it."""
    home = Path(tempfile.mkdtemp(prefix="mb-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def attempt(name: str, stand: Stand, home: Path, *, first: bool) -> Trial:
    """Run one way once, and judge it."""
    own = Path(tempfile.mkdtemp(dir=home, prefix="r"))
    place = Place(home, own)
    try:
        command = WAYS[name].command(place)
        took = stand.take(command.argv, environment(command.environment), own)
        expected = Expected(tuple(host.name for host in stand.hosts), first)
        wrong = problem(name, took, expected, place)
    finally:
        shutil.rmtree(own)
    state = state_of(stand.hosts[0]) if first and not wrong else ""
    step = recorded_step(took.said, place) if WAYS[name].says == "mcpops" else None
    step_s = step["duration_s"] if step else 0.0
    return Trial(name, took.wall_s, took.control_cpu_s, took.host_cpu_s, took.other_cpu_s, wrong, state, step_s)


def prepare(stand: Stand, names: Sequence[str], home: Path) -> None:
    """Bring the hosts to the state, and let those that keep something have their run of the day before."""
    quickest = "warm" if "warm" in names else "tuned"
    before = {quickest: attempt(quickest, stand, home, first=True)}
    for name in names:
        if WAYS[name].keeps and name != quickest:
            before[name] = attempt(name, stand, home, first=False)
    wrong = [f"{name}: {trial.problem}" for name, trial in before.items() if trial.problem]
    assert not wrong, wrong


def in_turns(names: Sequence[str], rounds: int, one: Callable[[str], Trial]) -> list[Trial]:
    """Each way once a round, each second round the other way round; says each figure on stderr."""
    trials = []
    for number in range(rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            trial = one(name)
            figures = f"{trial.wall_s:6.2f} s, CPU {trial.control_cpu_s:.2f} + {trial.host_cpu_s:.2f} s"
            sys.stderr.write(f"{number + 1}/{rounds} {name:10}{figures} {trial.problem[:300]}\n")
            trials.append(trial)
    return trials


def no_change(plan: Plan, names: Sequence[str], rounds: int) -> list[Trial]:
    """On hosts that are as they should be."""
    with workplace() as home, hosts(LAB, plan.count) as stand:
        furnish(home, stand)
        prepare(stand, names, home)
        return in_turns(names, rounds, lambda name: attempt(name, stand, home, first=False))


def first_run(plan: Plan, names: Sequence[str], rounds: int) -> list[Trial]:
    """On a new host for each run; what is kept on the control node was kept from another host."""
    with workplace() as home:

        def one(name: str) -> Trial:
            with hosts(LAB, plan.count) as stand:
                furnish(home, stand)
                return attempt(name, stand, home, first=True)

        for name in names:
            if WAYS[name].keeps:
                before = one(name)
                assert not before.problem, f"{name}: {before.problem}"
        return in_turns(names, rounds, one)


def measured() -> dict[str, str]:
    """What these figures are of: our commit, and each peer's version."""
    git = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    pinned = dict(re.findall(r"^(ansible-core|mitogen|pyinfra)==(\S+)", PEERS_LOCK.read_text(), re.MULTILINE))
    return {"commit": commit, "python": platform.python_version(), **pinned}


def measure(stand: str, only: Sequence[str], rounds: int | None, results: Path) -> bool:
    """One stand from new hosts to a table and a file; tells whether its bars are held."""
    plan = PLANS[stand]
    names = only or plan.ways
    if any(WAYS[name].peers for name in names):
        make_peers()
    sys.stderr.write(f"{TITLES[stand]}: {', '.join(names)}\n")
    run = first_run if plan.first else no_change
    trials = run(plan, names, rounds or plan.rounds)
    about = {"load_average": round(os.getloadavg()[1], 1), "measured": measured()}
    row = {**summary(stand, TITLES[stand], trials), **about}
    write_json(results / f"warm-{stand}.json", {"row": row, "trials": [asdict(trial) for trial in trials]})
    print(f"{table(row)}\n", flush=True)
    return holds(row)


def ways(text: str) -> list[str]:
    """Names of ways, by commas."""
    names = text.split(",")
    unknown = [name for name in names if name not in WAYS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such way: {', '.join(unknown)}; there are {', '.join(WAYS)}")
    return names


def main() -> None:
    """Exit 0 when nothing went wrong and every bar is held whose ways were run, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--hosts", action="append", choices=["1", "5", "20"], help="no change, on so many hosts")
    parser.add_argument("--fresh", action="store_true", help="a first run on a new host")
    parser.add_argument("--rounds", type=int, help="default: 5, and 2 on 20 hosts")
    parser.add_argument("--only", type=ways, default=[], metavar="WAY,...", help=f"of {', '.join(WAYS)}")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by the way that takes the hosts down
    stands = [*(options.hosts or []), *(["fresh"] if options.fresh else [])] or list(PLANS)
    held = [measure(stand, options.only, options.rounds, options.results) for stand in stands]
    raise SystemExit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
