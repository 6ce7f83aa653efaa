"""`down` leaves nothing, also after the launcher of `up` was killed at any moment; `up` goes on from there."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcpops.deploy.release import load_release
from mcpops.lab.ecosystem import Ecosystem
from mcpops.lab.files import Places
from mcpops.lab.lab import Lab, to_stderr

pytestmark = pytest.mark.lab

# Kills itself at the Nth call of any function of the lab: a moment that can be repeated, unlike a time.
LAUNCHER = """
import os, signal, sys
from pathlib import Path
from mcpops.lab.ecosystem import Ecosystem
from mcpops.lab.lab import Lab

left = int(sys.argv[1])

def count(frame, event, argument):
    global left
    if event == "call" and "/mcpops/lab/" in frame.f_code.co_filename:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(count)
Ecosystem(Lab("robust"), Path(sys.argv[2]), print).up()
sys.setprofile(None)
print(int(sys.argv[1]) - left)
"""
ROOT = Path(__file__).parents[2]


def _launch(kill_at: int, project: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(kill_at), str(project)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip


def _killed_at(part: float, calls: int, project: Path) -> None:
    launcher = _launch(max(1, int(part * calls)), project)
    launcher.communicate(timeout=120)
    assert launcher.returncode == -9, "the launcher ended before it was killed"


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many calls an `up` of the whole lab makes."""
    launcher = _launch(10**9, tmp_path_factory.mktemp("project"))
    seen, _ = launcher.communicate(timeout=600)
    Lab("robust").down()
    return int(seen.split()[-1])


def test_up_and_down_leave_nothing(robust, left_of):
    robust.up(["a", "b"])
    found = {line.split()[0] for line in left_of(robust)}
    assert found >= {"cgroup", "interface", "namespace", "process", "state", "mount"}, "the check sees what there is"
    robust.outside.clients(3)
    sleeper = subprocess.Popen(robust.outside.command(["sleep", "600"]))
    robust["b"].freeze()
    robust.down()
    assert sleeper.wait(timeout=5) == -9
    assert left_of(robust) == []
    robust.down()


@pytest.mark.parametrize("part", [0.2, 0.6])
def test_down_after_a_kill_leaves_nothing(robust, left_of, calls, part, tmp_path):
    _killed_at(part, calls, tmp_path)
    robust.down()
    assert left_of(robust) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", [n / 14 for n in range(1, 14)])
def test_down_after_a_kill_at_many_moments_leaves_nothing(robust, left_of, calls, part, tmp_path):
    _killed_at(part, calls, tmp_path)
    robust.down()
    assert left_of(robust) == []
    time.sleep(0.5)
    assert left_of(robust) == [], "a process of the killed launcher came late"


@pytest.mark.slow
@pytest.mark.parametrize("part", [n / 7 for n in range(1, 7)])
def test_up_after_a_kill_repairs(robust, left_of, calls, part, tmp_path):
    _killed_at(part, calls, tmp_path)
    ecosystem = Ecosystem(robust, tmp_path, to_stderr)
    found = ecosystem.up()
    assert found["state"] == "up"
    assert found["releases"] == ["time-2026.7.10", "time-2026.10.10"]
    for name, host in robust.hosts.items():
        assert host.ssh("hostname").stdout == f"{name}\n"
    image = load_release(ecosystem.releases / "time-2026.7.10.yml").artifact["image"]
    robust["front1"].ssh(f"docker pull -q {image}")
    ecosystem.down()
    assert left_of(robust) == []
    assert not ecosystem.inventory.exists()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["part-images-*/debian.tar", "part-images-*/common", "part-*/usr", "part-*/srv/repo*"])
def test_a_killed_build_leaves_nothing(tmp_path, left_of, what):
    lab = Lab("robust", places=Places(cache=tmp_path / "cache", state=Places.from_environment().state))
    launcher = _launch(10**9, tmp_path, LAB_CACHE=str(lab.places.cache))
    deadline_s = time.monotonic() + 120
    while not list(lab.places.cache.glob(what)):
        assert launcher.poll() is None, f"ended before {what} was there"
        assert time.monotonic() < deadline_s, f"no {what} after 120 s"
        time.sleep(0.05)
    launcher.kill()
    launcher.communicate(timeout=10)
    assert [line for line in left_of(lab) if line.startswith("partial build")]
    lab.down()
    assert left_of(lab) == []
    time.sleep(0.5)
    assert left_of(lab) == [], "a process of the killed build came late"


@pytest.mark.slow
def test_two_labs_side_by_side(robust, left_of):
    with Lab("robust2") as other:
        robust.up(["web"])
        other.up(["web"])
        mine, theirs = robust["web"], other["web"]
        assert mine.ipv4 != theirs.ipv4
        for address in (theirs.ipv4, theirs.ipv6):
            assert mine.ssh(f"ping -c 1 -W 1 {address}", check=False).returncode == 1, "neither has a way to the other"
        robust.down()
        assert left_of(robust) == []
        assert theirs.ssh("hostname").stdout == "web\n"
    assert left_of(other) == []


@pytest.mark.slow
def test_two_at_once_make_one_lab(robust, tmp_path):
    both = [_launch(10**9, tmp_path), _launch(10**9, tmp_path)]
    assert [launcher.wait(timeout=60) for launcher in both] == [0, 0]
    for launcher in both:
        launcher.communicate()
    assert robust.status().state == "up"


@pytest.mark.slow
def test_a_host_that_comes_later_is_known_to_the_others(robust):
    robust.up(["a"])
    robust.up(["a", "b"])
    robust["a"].ssh("ping -c 1 -W 2 b")
    robust["b"].ssh("ping -6 -c 1 -W 2 a")
