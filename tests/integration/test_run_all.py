"""The command that runs all tests: what hangs is ended, and what could not be installed is no part to leave out."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from pathlib import Path

import pytest

from mcpops.lab import machine
from tests import run_all
from tests.run_all import PYTEST, Layer, Outcome, run


def test_a_layer_that_says_nothing_is_ended_at_its_limit() -> None:
    begun = time.monotonic()

    ended = run(Layer("silent", (sys.executable, "-c", "import time; time.sleep(60)"), minutes=0.01))

    assert ended == Outcome("silent", False, "ended after 0.01 minutes")
    assert time.monotonic() - begun < 30


def test_a_layer_that_fails_has_failed() -> None:
    good = run(Layer("good", (sys.executable, "-c", "print('1 passed')"), 1))
    bad = run(Layer("bad", (sys.executable, "-c", "print('1 passed'); exit(1)"), 1))
    assert [good, bad] == [Outcome("good", True, "1 passed"), Outcome("bad", False, "1 passed")]


@pytest.mark.parametrize(
    ("missing", "problem", "code", "said"),
    [
        ("", "", 0, "2 passed, 0 failed"),
        ("the lab needs root", "", 0, "left out lab: real hosts: the lab needs root"),
        ("", "`apt-get update` failed: no network", 1, "FAILED  packages: `apt-get update` failed"),
    ],
)
def test_what_cannot_be_had_is_left_out_and_what_failed_fails(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
    problem: str,
    code: int,
    said: str,
) -> None:
    good = Layer("good", (sys.executable, "-c", "print('1 passed')"), 1)
    monkeypatch.setattr(run_all, "LINT", ())
    monkeypatch.setattr(run_all, "UNIT", good)
    monkeypatch.setattr(run_all, "BENCH", Layer("none", (sys.executable, "-c", "pass"), 1))
    monkeypatch.setattr(run_all, "SERVERS", Layer("none", (sys.executable, "-c", "pass"), 1))
    monkeypatch.setattr(run_all, "LAB", Layer("lab: real hosts", good.argv, 1))
    monkeypatch.setattr(run_all, "lab_missing", lambda: missing)
    monkeypatch.setattr(run_all, "install_packages", lambda: problem)

    assert run_all.main() == code
    assert said in capsys.readouterr().out


SKIPS = """
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_two(number):
    pytest.skip("not on this machine: sshd (apt-get install openssh-server)")

@pytest.mark.skipif(True, reason="not on this machine: user namespaces")
def test_one():
    0 / 0

def test_good():
    pass
"""


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No layer but SERVERS: pytest, called as all layers call it, over one module. Returns its directory."""
    shutil.copy(run_all.ROOT / "tests/conftest.py", tmp_path)
    shutil.copy(run_all.ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(run_all, "ROOT", tmp_path)
    monkeypatch.setattr(run_all, "LINT", ())
    monkeypatch.setattr(run_all, "UNIT", Layer("none", (sys.executable, "-c", "pass"), 1))
    monkeypatch.setattr(run_all, "BENCH", Layer("none", (sys.executable, "-c", "pass"), 1))
    monkeypatch.setattr(run_all, "SERVERS", Layer("servers", (*PYTEST, "-p", "no:cacheprovider", "."), 1))
    monkeypatch.setattr(run_all, "lab_missing", lambda: "the lab needs root")
    return tmp_path


@pytest.mark.parametrize("ci", ["", "1"])
def test_the_summary_lists_what_was_skipped_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], layers: Path, ci: str
) -> None:
    (layers / "test_it.py").write_text(SKIPS)
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a CI may; colours would hide the lines

    assert run_all.main() == 0
    summary = capsys.readouterr().out.partition("== summary")[2]
    assert "left out 2 of servers: not on this machine: sshd (apt-get install openssh-server) (test_it.py)" in summary
    assert "left out 1 of servers: not on this machine: user namespaces (test_it.py)" in summary
    assert summary.endswith("1 passed, 0 failed\n")


def test_the_summary_counts_a_module_that_could_not_be_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], layers: Path
) -> None:
    (layers / "test_it.py").write_text("import pytest\npytest.importorskip('no_such_part')\n")
    monkeypatch.setenv("CI", "1")

    assert run_all.main() == 1
    assert capsys.readouterr().out.endswith("0 passed, 1 failed\n")


@pytest.mark.parametrize(
    ("user", "system", "why"),
    [(1000, "debian", "the lab needs root"), (0, "ubuntu", "the lab needs Debian"), (0, "debian", "")],
)
def test_the_lab_is_for_root_on_debian(monkeypatch: pytest.MonkeyPatch, user: int, system: str, why: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": system})
    monkeypatch.setattr(machine, "IPV6", Path("/dev/null"))
    assert run_all.lab_missing() == why
