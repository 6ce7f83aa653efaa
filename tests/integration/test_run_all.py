"""The command that runs all tests: what hangs is ended, and what could not be installed is no part to leave out."""

from __future__ import annotations

import sys
import time

import pytest

from tests import run_all
from tests.run_all import Layer, run


def test_a_layer_that_says_nothing_is_ended_at_its_limit() -> None:
    begun = time.monotonic()

    passed, last = run(Layer("silent", (sys.executable, "-c", "import time; time.sleep(60)"), minutes=0.01))

    assert (passed, last) == (False, "ended after 0.01 minutes")
    assert time.monotonic() - begun < 30


def test_a_layer_that_fails_has_failed() -> None:
    assert run(Layer("good", (sys.executable, "-c", "print('1 passed')"), 1)) == (True, "1 passed")
    assert run(Layer("bad", (sys.executable, "-c", "print('1 passed'); exit(1)"), 1)) == (False, "1 passed")


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
    monkeypatch.setattr(run_all, "SERVERS", Layer("none", (sys.executable, "-c", "pass"), 1))
    monkeypatch.setattr(run_all, "LAB", Layer("lab: real hosts", good.argv, 1))
    monkeypatch.setattr(run_all, "lab_missing", lambda: missing)
    monkeypatch.setattr(run_all, "install_packages", lambda: problem)

    assert run_all.main() == code
    assert said in capsys.readouterr().out
