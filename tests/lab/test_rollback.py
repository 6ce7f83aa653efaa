"""`mcpops rollback` on two real fronts: no Ansible, no journal, one front down, a deploy in the middle."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mcpops.lab.ecosystem import FRONTS
from tests.lab.site import QUICK, Load, Site
from tests.lab.test_deploy import other, serving

# A session of tests begins with a setup and a deploy, within the first test's time.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


@pytest.fixture
def nothing_else(tmp_path: Path) -> dict[str, str]:
    """An environment in which neither Ansible nor the journal's library can be imported."""
    for name in ("ansible", "ansible_runner", "sqlalchemy"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('a rollback must not need {name}')\n")
    return {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def test_back_under_traffic_without_ansible_and_without_the_journals_library(
    site: Site, nothing_else: dict[str, str]
) -> None:
    before, wanted = serving(site)[1], other(serving(site)[1])
    assert site.run("deploy", wanted, *QUICK).code == 0
    assert site.run("runs", "list", environment=nothing_else).code == 10, "the stubs do stop what needs a library"

    with Load(site.lab) as load:
        began_s = time.monotonic()
        ended = site.run("rollback", environment=nothing_else)
        took_s = time.monotonic() - began_s

    assert (ended.code, load.failed()) == (0, []), ended.error
    assert ended.said.startswith(f"back to {before} "), "the target is named before anything happens"
    slot, release = serving(site)
    assert (release, load.slots_at_the_end()) == (before, {slot})
    assert ended.out["cutover"]["hosts"] == len(FRONTS)
    assert took_s < 30
    again = site.run("rollback", environment=nothing_else)
    assert (again.code, again.out["plan"]["already"]) == (0, True), "a second one does not go on to another release"
    assert serving(site) == (slot, release)


@pytest.mark.parametrize("how", ["unplugged", "frozen"])
def test_one_front_down_is_named_and_synced_when_it_is_back(site: Site, how: str) -> None:
    now = serving(site)
    wanted = other(now[1])

    with site.without("front2", how):
        with Load(site.lab, timeout_s=2) as load:
            began_s = time.monotonic()
            ended = site.run("rollback", "--to", wanted)
            took_s = time.monotonic() - began_s
        assert ended.code == 3, ended.error
        assert "front2" in ended.out["reason"]
        assert "front2: NOT REACHED" in ended.said
        assert {release for _, release in site.serving("front1")} == {wanted}
        assert load.failed("front1") == []
        assert took_s < 30, "a host that is gone is not waited for long"

    assert site.serving("front2") == {now}, "it kept what it had"
    assert site.run("status").code == 3, "the fronts disagree"
    repaired = site.run("rollback", "--sync")
    assert repaired.code == 0, repaired.error
    assert serving(site)[1] == wanted
    assert site.run("status").code == 0


def test_the_journal_is_gone(site: Site) -> None:
    wanted = other(serving(site)[1])
    files = list(site.journal.parent.glob("journal.sqlite*"))
    assert site.journal in files
    for path in files:
        path.rename(path.with_name(f"away-{path.name}"))
    try:
        with Load(site.lab) as load:
            ended = site.run("rollback", "--to", wanted)
        assert not site.journal.exists(), "it does not begin another one"
    finally:
        for path in files:
            path.with_name(f"away-{path.name}").rename(path)

    assert (ended.code, load.failed()) == (0, []), ended.error
    assert serving(site)[1] == wanted
    runs = site.run("runs", "list").out["runs"]
    assert (runs[0]["id"], runs[0]["runbook"]) == (ended.out["id"], "rollback"), "the journal takes it in afterwards"


def test_in_the_middle_of_a_deploy(site: Site) -> None:
    slot, before = serving(site)
    process = site.deploy_until_bake(other(before))

    with Load(site.lab) as load:
        began_s = time.monotonic()
        ended = site.run("rollback")
        took_s = time.monotonic() - began_s
        deploy = site.end(process)

    assert (ended.code, load.failed()) == (0, []), ended.error
    assert deploy.code == 8, deploy.error
    assert "fenced" in deploy.out["error"]["name"], deploy.out
    assert took_s < 10, "the slot to go back to still runs: nothing needs to be started"
    assert serving(site) == (slot, before)
    assert load.slots_at_the_end() == {slot}
    assert site.run("status").out["lease"] is None, "the environment is free again"


def test_a_release_nobody_knows_changes_nothing(site: Site) -> None:
    now = serving(site)
    ended = site.run("rollback", "--to", "time-1999")
    assert ended.code == 2
    assert "time-2026.7.10" in ended.out["error"]["detail"]
    assert serving(site) == now
