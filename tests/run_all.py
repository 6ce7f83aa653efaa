"""`make test`: lint and every layer of tests that this machine allows; says what was left out, and why.

The lab's layers need root on Debian or Ubuntu. The last line counts tests over all layers.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTEST = (str(BIN / "pytest"), "--durations=8", "--durations-min=2", "-q")


@dataclass(frozen=True)
class Layer:
    """One command of the whole; `minutes` bounds it."""

    name: str
    argv: tuple[str, ...]
    minutes: float


LINT = (
    Layer("ruff", (str(BIN / "ruff"), "check", "."), 2),
    Layer("ruff format", (str(BIN / "ruff"), "format", "--check", "."), 2),
    Layer("mypy", (str(BIN / "mypy"),), 4),
    Layer("import-linter", (str(BIN / "lint-imports"),), 2),
    Layer("ansible-lint", (str(BIN / "ansible-lint"), "--offline", "--profile", "production", "playbooks", "roles"), 5),
)
UNIT = Layer("unit", (*PYTEST, "-n", "2", "tests/unit"), 5)
SERVERS = Layer(
    "contract, integration, roles, e2e, crash",
    (*PYTEST, "-m", "not lab and not slow", "--ignore=tests/unit", "tests"),
    30,
)
LAB = Layer("lab: real hosts", (*PYTEST, "-m", "lab and not slow", "tests"), 25)


# What tests need beside the lab: a real sshd of their own, on loopback, for the channels.
TEST_PACKAGES = ("openssh-server",)


def lab_missing() -> str:
    """Return why the lab's layers cannot run here, or nothing; installs the packages they need."""
    if os.geteuid() != 0:
        return "the lab needs root"
    if platform.freedesktop_os_release().get("ID") not in ("debian", "ubuntu") or not shutil.which("apt-get"):
        return "the lab needs Debian or Ubuntu"
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


def run(layer: Layer) -> tuple[bool, str]:
    """Run a layer with its output shown; return whether it passed, and its closing line."""
    print(f"\n== {layer.name}", flush=True)
    begun, last = time.monotonic(), ""
    process = subprocess.Popen(
        layer.argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip() or last
        if time.monotonic() - begun > layer.minutes * 60:
            process.kill()
            last = f"ended after {layer.minutes:g} minutes"
    code = process.wait()
    print(
        f"-- {layer.name}: {'passed' if code == 0 else f'FAILED ({code})'} in {time.monotonic() - begun:.0f} s",
        flush=True,
    )
    return code == 0, last


def main() -> int:
    """Run everything; return 0 when every layer that ran passed."""
    begun = time.monotonic()
    layers = [*LINT, UNIT, SERVERS]
    left_out = {}
    why = lab_missing()
    if why:
        left_out[LAB.name] = why
    else:
        layers.append(LAB)
    outcomes = [(layer, *run(layer)) for layer in layers]
    print("\n== summary")
    for layer, passed, last in outcomes:
        print(f"{'passed' if passed else 'FAILED':<7} {layer.name}: {last}")
    for name, reason in left_out.items():
        print(f"left out {name}: {reason}")
    counts = {
        word: sum(int(n) for _, _, last in outcomes for n in re.findall(rf"(\d+) {word}", last))
        for word in ("passed", "failed")
    }
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 0 if all(passed for _, passed, _ in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
