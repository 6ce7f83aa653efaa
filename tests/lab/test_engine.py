"""The engine on real hosts: killed at each point, frozen and woken; a counter on each host says what was done."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mcpops.ansible.call import MARKER
from mcpops.core.proc import alive, descendants, with_environment
from mcpops.lab.ecosystem import FRONTS
from tests.lab.site import BIN, Site, wait_for

pytestmark = pytest.mark.lab

STEPS = 6
EFFECTS = "/root/effects"
# Not idempotent on purpose: each time that a step is really done adds a line. Whether it happened, its probe says.
MAIN = """
- name: Count
  ansible.builtin.shell: echo {{ n }} >> %(effects)s; sleep {{ wait | default(0) }}
  changed_when: true
- name: Fail, where that is asked for
  ansible.builtin.fail:
    msg: as it was told
  when: n | string == fails | default('') | string
"""
PROBE = """
- name: Look
  ansible.builtin.command: grep -cx {{ n }} %(effects)s
  register: seen
  changed_when: false
  failed_when: false
- name: Tell
  ansible.builtin.set_stats:
    data: {probe: "{{ 'done' if codes == [0] else 'not_done' }}"}
    aggregate: false
  vars:
    codes: "{{ ansible_play_hosts_all | map('extract', hostvars, ['seen', 'rc']) | map('default', 1) | unique | list }}"
  run_once: true
"""
UNDO = """
- name: Take back
  ansible.builtin.shell: grep -qx undo{{ n }} %(effects)s || echo undo{{ n }} >> %(effects)s
  changed_when: true
"""
PLAY = """
- name: s%(n)d
  hosts: fronts
  gather_facts: false
  vars: {step: {undo: true}}
  roles: [{role: counted, n: %(n)d}]
"""


@pytest.fixture
def counted(site: Site) -> Site:
    """The site with a runbook of six steps, and hosts on which nothing was counted yet."""
    tasks = site.home / "roles/counted/tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    (site.home / "playbooks").mkdir(exist_ok=True)
    for name, text in (("main", MAIN), ("probe", PROBE), ("undo", UNDO)):
        (tasks / f"{name}.yml").write_text(text % {"effects": EFFECTS})
    (site.home / "playbooks/six.yml").write_text("".join(PLAY % {"n": n} for n in range(1, STEPS + 1)))
    for front in FRONTS:
        site.lab[front].ssh(f"rm -f {EFFECTS}; touch {EFFECTS}")
    return site


def effects(site: Site) -> dict[str, list[str]]:
    return {front: site.lab[front].ssh(f"cat {EFFECTS}").stdout.split() for front in FRONTS}


def strays(site: Site, run_id: str) -> list[str]:
    """Processes of a run that are left, here or on a host."""
    here = [f"local {pid}" for pid in with_environment(MARKER, lambda marker: marker.startswith(run_id))]
    for front in FRONTS:
        seen = site.lab[front].ssh("pgrep -af mcpops/fence/ || true").stdout.splitlines()
        here += [f"{front}: {line}" for line in seen if "pgrep" not in line]
    return here


def killed_through(site: Site, points: list[str], *more: str) -> str:
    """Begin a run and kill it at the first point, resume and kill it at the next, and so on; return its id."""
    first = site.run("run", "six", *more, environment={"MCPOPS_FAILPOINT": points[0]})
    assert first.code == -9, first.error
    run_id = next(line.split()[1].rstrip(":") for line in first.said.splitlines() if line.startswith("run "))
    for point in points[1:]:
        again = site.run("runs", "resume", run_id, environment={"MCPOPS_FAILPOINT": point})
        assert again.code == -9, (point, again.error)
    wait_for("nothing of it is left", lambda: not strays(site, run_id), 10)
    return run_id


ALL_POINTS = [f"{when}:s{n}" for n in range(1, STEPS + 1) for when in ("after-intent", "before-outcome")]


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(["before-outcome:s1", "after-intent:s4", "before-end"], id="short"),
        pytest.param([*ALL_POINTS, "before-end"], id="every point", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_at_each_point_ends_right_and_does_nothing_twice(counted, points):
    run_id = killed_through(counted, points)

    ended = counted.run("runs", "resume", run_id)

    assert (ended.code, ended.out["state"]) == (0, "done"), ended.error
    wanted = [str(n) for n in range(1, STEPS + 1)]
    assert effects(counted) == dict.fromkeys(FRONTS, wanted), "no effect is missing, none is there twice"
    assert ended.out["record"]["verified"] is True
    assert strays(counted, run_id) == []


UNDO_POINTS = ["after-intent:undo s2", "before-outcome:undo s1"]


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_takes_back_ends_right(counted):
    run_id = killed_through(counted, ["after-intent:s3", *UNDO_POINTS, "before-end"], "-x", "fails=3")

    ended = counted.run("runs", "resume", run_id)

    assert (ended.code, ended.out["state"]) == (5, "rolled_back"), ended.error
    wanted = ["1", "2", "3", "undo3", "undo2", "undo1"]
    assert {front: list(dict.fromkeys(seen)) for front, seen in effects(counted).items()} == dict.fromkeys(
        FRONTS, wanted
    )


def test_a_run_that_is_killed_in_a_play_leaves_nothing_running_anywhere(counted):
    process = counted.start("run", "six", "-x", "wait=30")
    try:
        wait_for("the first effect", lambda: all(effects(counted).values()), 60)
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    run_id = next(line.split()[1].rstrip(":") for line in said.splitlines() if line.startswith("run "))

    wait_for("the command on the hosts is ended too", lambda: not strays(counted, run_id), 10)
    assert counted.run("runs", "abandon", run_id, "--yes").code == 0


# Another control node: it cannot see the processes of this one, nor can it be taken for this one.
ELSEWHERE = "hostname elsewhere && exec {argv}"


def elsewhere(site: Site, *argv: str) -> subprocess.CompletedProcess[str]:
    words = shlex.join([str(BIN / "mcpops"), *argv, "-e", site.name, "--json"])
    return subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "--uts", "sh", "-c", ELSEWHERE.format(argv=words)],
        cwd=site.home, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "deadline", ["hosts alone", pytest.param("as it is", marks=pytest.mark.slow)], ids=lambda value: value
)
def test_a_controller_that_was_frozen_and_wakes_after_a_takeover_changes_nothing(counted, deadline):
    """`hosts alone`: its clock is made to say that it may still act, so that nothing but the hosts can stop it."""
    process = counted.start("run", "six", "-x", "wait=4")
    tree: list[int] = []
    try:
        wait_for("the second effect", lambda: all("2" in seen for seen in effects(counted).values()), 90)
        tree = [process.pid, *descendants(process.pid)]
        for pid in tree:
            os.kill(pid, signal.SIGSTOP)
        run_id = counted.run("runs", "list").out["runs"][0]["id"]

        busy = elsewhere(counted, "runs", "resume", run_id)
        assert busy.returncode == 4, busy.stderr
        time.sleep(31)  # the lease
        taken = elsewhere(counted, "runs", "resume", run_id)
        assert taken.returncode == 0, taken.stdout + taken.stderr
        before = effects(counted)
        if deadline == "hosts alone":
            for path in Path("/dev/shm").glob(f"mcpops-{run_id}.*.lease"):
                path.write_text("1e12")

        for pid in reversed(tree):
            os.kill(pid, signal.SIGCONT)
        code = process.wait(60)
        wait_for("its tree is gone", lambda: not [pid for pid in tree if alive(pid)], 10)
    finally:
        for pid in tree:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=10)

    assert code == 8, "it found that it was fenced"
    time.sleep(5)
    assert effects(counted) == before
    assert all(seen.count(str(n)) == 1 for seen in before.values() for n in (1, 3, 4, 5, 6))
    shown = counted.run("runs", "show", run_id).out
    assert (shown["state"], shown["record"]["verified"]) == ("done", True)
