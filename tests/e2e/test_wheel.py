"""The wheel in an empty environment, in a directory that knows nothing of this checkout: it plans and it acts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.stand import ROOT, Project, new_project

UV = Path(sys.executable).with_name("uv")
# Nothing of this environment may help.
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON", "ANSIBLE"))}


def uv(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**BARE, **environment}
    return subprocess.run(
        [str(UV), *argv], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@dataclass(frozen=True)
class Installed:
    """Where the wheel was installed."""

    python: Path
    share: Path

    @property
    def program(self) -> Path:
        """Its mcpops."""
        return self.python.with_name("mcpops")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel with what is installed here, and install it with what was downloaded for here."""
    home = tmp_path_factory.mktemp("wheel")
    built = uv("build", "--wheel", "--no-build-isolation", "--offline", "-o", str(home), VIRTUAL_ENV=sys.prefix)
    assert built.returncode == 0, built.stderr
    wheel = next(home.glob("mcpops-*.whl"))
    python = home / "venv/bin/python"
    assert uv("venv", "--python", sys.executable, str(home / "venv")).returncode == 0
    words = [
        "pip",
        "install",
        "--python",
        str(python),
        "-c",
        "requirements/dev.lock",
        f"mcpops[embedded] @ {wheel.as_uri()}",
    ]
    done = uv(*words, "--offline")
    if done.returncode:  # the cache was cleared since
        done = uv(*words)
    assert done.returncode == 0, done.stderr
    return Installed(python, next((home / "venv").glob("lib/python3*/site-packages/mcpops/share")))


@pytest.fixture
def fresh(installed: Installed) -> Iterator[Project]:
    """A project that has an inventory and releases, and nothing else."""
    made = new_project(program=installed.program)
    yield made
    made.down()


def test_the_wheel_carries_what_runs(installed):
    def names(root: Path) -> set[str]:
        kinds = ("playbooks", "roles", "plugins")
        found = {path.relative_to(root) for kind in kinds for path in (root / kind).rglob("*") if path.is_file()}
        return {str(path) for path in found if "__pycache__" not in path.parts}

    assert names(installed.share) == names(ROOT)
    assert (installed.share / "ansible.cfg").is_file()


def test_it_runs_from_any_directory(installed, fresh):
    version = fresh.text("--version")
    assert (version.returncode, version.stdout.split()[0]) == (0, "mcpops"), version.stderr

    plan = fresh.run("run", "setup", "--plan", environment={"PYTHONPATH": ""})
    assert plan.code == 0, plan.error
    assert [step["name"] for step in plan.out["steps"]] == ["setup"]
    deploy = fresh.run("deploy", "time-2026.10.10", "--plan")
    assert [step["name"] for step in deploy.out["steps"]][-1] == "retire"

    ended = fresh.run("run", "setup")
    assert ended.code == 0, ended.error
    kept = fresh.home / ".mcpops/local/runs" / ended.out["id"] / "snapshot"
    assert (kept / "plugins/lookup/hostside.py").read_bytes() == (ROOT / "plugins/lookup/hostside.py").read_bytes()
    assert fresh.front()["proxy"] is True

    nothing = fresh.run("rollback")
    assert (nothing.code, nothing.out["error"]["name"]) == (9, "refused"), nothing.error
    assert "no verified release" in nothing.error
