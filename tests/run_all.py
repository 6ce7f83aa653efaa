"""`make test`: lint and every layer of tests that this machine allows; says what was left out, and why.

The lab's layer needs root on Debian. The last line counts tests over all layers.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mcpops.lab import machine

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTEST = (str(BIN / "pytest"), "--durations=8", "--durations-min=2", "-q", "--color=no")
SKIPPED = re.compile(r"SKIPPED \[(\d+)\] (\S+?)(?::\d+)?: (.+)")  # as pytest's -ra, in pyproject.toml, prints them


@dataclass(frozen=True)
class Layer:
    """One command of the whole; `minutes` bounds it."""

    name: str
    argv: tuple[str, ...]
    minutes: float


@dataclass(frozen=True)
class Outcome:
    """What came of a layer: its closing line, and reason -> number of the tests that were skipped."""

    name: str
    passed: bool
    last: str
    skipped: Counter[str] = field(default_factory=Counter)

    def count(self, word: str) -> int:
        """Return a number of the closing line, 0 when it has none."""
        return sum(int(number) for number in re.findall(rf"(\d+) {word}", self.last))


LINT = (
    Layer("ruff", (str(BIN / "ruff"), "check", "."), 2),
    Layer("ruff format", (str(BIN / "ruff"), "format", "--check", "."), 2),
    Layer("mypy", (str(BIN / "mypy"),), 4),
    Layer("import-linter", (str(BIN / "lint-imports"),), 2),
    Layer("ansible-lint", (str(BIN / "ansible-lint"), "--offline", "--profile", "production", "playbooks", "roles"), 5),
)
UNIT = Layer("unit", (*PYTEST, "-n", "2", "tests/unit"), 5)
BENCH = Layer("bench, short form", (*PYTEST, "-m", "not lab and not slow", "tests/bench"), 5)
# A file stays on one worker: its stands have ports of their own. In the order of the directories, which has the longest
# files early. On two cores 14 minutes instead of 21 for e2e and crash; a run with traffic still fails no request.
WORKERS = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
SERVERS = Layer(
    "contract, integration, roles, e2e, crash",
    (*PYTEST, *WORKERS, "-m", "not lab and not slow", "--ignore=tests/unit", "--ignore=tests/bench", "tests"),
    45,
)
# After the others, one by one: beside them, or beside a second lab, it takes both cores whole, and a deploy 57 s and
# not 27. (Two workers passed as well, in 12 minutes instead of 15, at a load of 6: too near the edge for a gate.)
LAB = Layer("lab: real hosts", (*PYTEST, "-m", "lab and not slow", "tests"), 45)


# What tests need beside the lab: a real sshd of their own, on loopback, for the channels.
TEST_PACKAGES = ("openssh-server",)
GRACE_S = 60.0  # `mcpops lab down` takes a few seconds


def lab_missing() -> str:
    """Return why the lab cannot be had on this machine, or nothing."""
    return str(machine.lacks() or "")


def install_packages() -> str:
    """Install what the lab and the tests need of the machine; return what went wrong, or nothing."""
    said = subprocess.run(
        [sys.executable, "-m", "mcpops.lab.packages"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-qy", "--no-install-recommends", *TEST_PACKAGES, *said.stdout.split()],
    ):
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            return f"`{' '.join(argv[:2])}` failed: {done.stderr.strip()[-300:]}"
    return ""


def end(process: subprocess.Popen[str]) -> None:
    """End a layer that takes too long: Ctrl-C first, so that pytest's fixtures end what they started.

    On workers they have ten seconds for it (xdist's own bound), which is short for an embedded default.
    """
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def run(layer: Layer) -> Outcome:
    """Run a layer with its output shown."""
    print(f"\n== {layer.name}", flush=True)
    begun, last = time.monotonic(), ""
    skipped: Counter[str] = Counter()
    process = subprocess.Popen(
        layer.argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    limit = threading.Timer(layer.minutes * 60, end, (process,))
    limit.start()
    with process.stdout:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
            if found := SKIPPED.fullmatch(line.strip()):
                skipped[f"{found[3]} ({found[2]})"] += int(found[1])
    code = process.wait()
    limit.cancel()
    took_s = time.monotonic() - begun
    if took_s > layer.minutes * 60:
        code, last = code or 1, f"ended after {layer.minutes:g} minutes"
    print(f"-- {layer.name}: {'passed' if code == 0 else f'FAILED ({code})'} in {took_s:.0f} s", flush=True)
    return Outcome(layer.name, code == 0, last, skipped)


def tell(outcomes: list[Outcome], without_lab: str) -> None:
    """Print what came of each layer, and everything that was left out, with its reason."""
    print("\n== summary")
    for outcome in outcomes:
        print(f"{'passed' if outcome.passed else 'FAILED':<7} {outcome.name}: {outcome.last}")
    if without_lab:
        print(f"left out {LAB.name}: {without_lab}")
    for outcome in outcomes:
        for reason, count in outcome.skipped.items():
            print(f"left out {count} of {outcome.name}: {reason}")


def main() -> int:
    """Run everything; return 0 when every layer that ran passed."""
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    layers = [*LINT, UNIT, BENCH, SERVERS]
    why = lab_missing()
    problem = "" if why else install_packages()
    if problem:  # the machine could have them: this is a failure, and no part to leave out
        outcomes.append(Outcome("packages", False, problem))
    elif not why:
        layers.append(LAB)
    outcomes += [run(layer) for layer in layers]
    tell(outcomes, why)
    passed = sum(outcome.count("passed") for outcome in outcomes)
    failed = sum(outcome.count("failed") + outcome.count("errors?") for outcome in outcomes)
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    print(f"{passed} passed, {failed} failed")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
