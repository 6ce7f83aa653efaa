"""Which hosts are silent, and which say that nothing is set up there: real interpreters, real words."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mcpops.cli.overtaken import silent
from mcpops.deploy.cutover import read_fronts
from mcpops.hostside.bundle import build
from mcpops.model.target import Target
from mcpops.remote.fleet import Fleet
from tests.integration.rollback_stand import SSHD, Sshd

PORT = 18790


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """A host with hostside, on which no service is set up."""
    build(tmp_path / "hostside.pyz")
    (tmp_path / "state").mkdir()
    return Target(
        name="h",
        address="127.0.0.1",
        connection="local",
        python=sys.executable,
        hostside_path=str(tmp_path / "hostside.pyz"),
        state_dir=str(tmp_path / "state"),
    )


def is_silent(target: Target, answer_s: float = 20.0) -> bool:
    with Fleet.open([target], answer_s) as fleet:
        read_fronts(fleet, fleet.greetings)
        assert set(fleet.errors) == {"h"}
        return bool(silent([target], fleet.errors))


def test_a_host_without_a_service_says_so(target: Target) -> None:
    assert not is_silent(target)
    assert not is_silent(replace(target, state_dir=f"{target.state_dir}/not-there"))


def test_a_host_without_hostside_says_so(target: Target) -> None:
    assert not is_silent(replace(target, hostside_path="/nonexistent/hostside.pyz"))


def test_a_host_without_hostside_says_so_over_ssh(target: Target, tmp_path: Path) -> None:
    if not Path(SSHD).exists():
        pytest.skip("not on this machine: sshd (apt-get install openssh-server)")
    with Sshd(tmp_path / "sshd", PORT) as sshd:
        far = sshd.target(target)
        assert not is_silent(far)
        assert not is_silent(replace(far, hostside_path="/nonexistent/hostside.pyz"))
        assert is_silent(replace(far, private_key_file=str(sshd.directory / "no_such_key")))
        assert is_silent(replace(far, python="/nonexistent/python3"))
    assert is_silent(far), "the host is down"


@pytest.mark.parametrize("program", ["import time; time.sleep(60)", "print('Welcome!', flush=True); input()", "1 / 0"])
def test_anything_else_is_no_answer(target: Target, tmp_path: Path, program: str) -> None:
    (tmp_path / "other.py").write_text(program + "\n")

    assert is_silent(replace(target, hostside_path=str(tmp_path / "other.py")), 2.0)


def test_a_service_that_cannot_be_read_is_no_answer(target: Target) -> None:
    (Path(target.state_dir) / "service.json").write_text("{}")

    assert is_silent(target)
