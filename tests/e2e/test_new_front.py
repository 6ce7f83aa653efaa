"""A second front is set up beside the one that serves: how it comes in, and how it catches up with a rollback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.stand import QUICK, Load, Project

# Two setups and up to six deploys, on cores that others use too.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def hosts(project: Project, *names: str) -> str:
    """An inventory of the front that serves and of a second one, which has ports and processes of its own."""
    home, port = project.home / ".mcpops/second", project.base_port + 5
    local: dict[str, Any] = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    second = {
        **local,
        "embedded_home": str(home),
        "embedded_valkey_port": port,
        "front_port": port + 1,
        "front_metrics_port": port + 2,
        "front_slots": {
            "blue": {"address": "127.0.0.1", "port": port + 3},
            "green": {"address": "127.0.0.1", "port": port + 4},
        },
    }
    given = {"local": local, "second": second}
    return json.dumps({"all": {"children": {"fronts": {"hosts": {name: given[name] for name in names}}}}})


@pytest.fixture(scope="module")
def pair(project: Project) -> Iterator[str]:
    """An environment of both fronts, the second one new; it is gone afterwards."""
    alone = project.environment("second", hosts=hosts(project, "second"))
    name = project.environment("pair", hosts=hosts(project, "local", "second"))
    try:
        ended = project.run("run", "setup", "-e", name)
        assert ended.code == 0, ended.error
        yield name
    finally:
        for run in project.run("runs", "list", "-e", name).out["runs"]:
            if run["state"] in ("running", "broken"):
                project.run("runs", "abandon", run["id"], "--yes")
        ended = project.run("run", "teardown", "-e", alone)
        assert ended.code == 0, ended.error


def second(project: Project) -> tuple[str, str | None, str]:
    """What the second front serves, from which slot, and its phase."""
    home = project.home / ".mcpops/second"
    argv = [sys.executable, "-I", str(home / "hostside.pyz"), "--state", str(home / "service"), "status"]
    said = json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout)
    return said["active"], said["release"], said["phase"]


def test_a_deploy_brings_a_new_front_in_and_its_undo_takes_it_out_again(project: Project, pair: str) -> None:
    before, wanted = project.serving(), project.other()
    assert second(project) == ("none", None, "steady")

    with Load(project) as load:
        broken = project.run("deploy", "time-broken", "--bake", "20s", "--drain", "0s", "-e", pair)
    assert broken.code == 5, broken.error
    assert [line for line in load.failed if "broken on purpose" not in line] == [], "how many: test_deploy.py"
    assert project.serving() == before
    assert second(project) == ("none", None, "steady"), "nothing served there before"

    with Load(project) as load:
        ended = project.run("deploy", wanted, *QUICK, "-e", pair)
    assert (ended.code, load.failed) == (0, []), ended.error
    assert ended.out["cutover"]["hosts"] == 2
    front = project.front()
    assert (front["release"], second(project)) == (wanted, (front["active"], wanted, "steady"))
    status = project.run("status", "-e", pair)
    assert (status.code, status.out["agreed"]) == (0, True), status.error


def test_a_front_that_was_away_catches_up_and_the_next_rollback_does_not_go_forward(
    project: Project, pair: str
) -> None:
    """What it goes back to was drained, closed and stopped there by the deploy in between."""
    for _ in range(1 if second(project)[1] else 2):
        assert project.run("deploy", project.other(), *QUICK, "-e", pair).code == 0
    bad, good = project.serving(), project.other()
    assert second(project)[1] == bad

    assert project.run("rollback").code == 0, "of the first front alone: this environment has no other"
    assert (project.serving(), second(project)[1]) == (good, bad)
    with Load(project) as load:
        looked = project.run("deploy", str(bad), "--until", "preflight", "-e", pair)
        front = project.front()
        assert (looked.code, second(project)) == (0, (front["active"], good, "steady")), looked.error
        back = project.run("rollback", "-e", pair)
    assert (back.code, load.failed) == (0, []), back.error
    assert "taken back already" in back.said
    assert (project.serving(), second(project)[1]) == (good, good)
    rows = [row for row in back.out["steps"][0]["results"] if row["task"] == "probe"]
    assert {row["host"]: row["outcome"] for row in rows} == {"local": "ok", "second": "ok"}
