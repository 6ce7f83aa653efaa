"""A plan is whole or leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcpops.ansible.inventory import Inventory
from mcpops.cli import plan as plans
from mcpops.cli.foresee import Foreseen
from mcpops.cli.project import Environment
from mcpops.cli.record import open_journal
from mcpops.cli.wire import Workplace
from mcpops.core.errors import UsageError
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.runbook.search import SearchPath

RUNBOOK = """
- name: first
  hosts: all
  tasks: []
- name: second
  hosts: all
  tasks: []
"""


@pytest.fixture
def place(tmp_path):
    environment = Environment("lab", tmp_path, tmp_path / "inventories/lab", tmp_path / ".mcpops/lab")
    for name in ("inventories/lab", "playbooks"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "inventories/lab/hosts.yml").write_text("all: {hosts: {h: {}}}\n")
    (tmp_path / "playbooks/two.yml").write_text(RUNBOOK)
    record, inventory = open_journal(tmp_path), Inventory(environment.inventory, {"all": ("h",)}, {"h": {}})
    return Workplace(environment, record, SearchPath((tmp_path,)), inventory)


def left_behind(place) -> list[Path]:
    return sorted((place.environment.state / "runs").glob("*"))


def test_a_plan_keeps_what_the_run_will_use(place):
    plan = plans.make_plan(place, "two", {}, files={"note": "x"}, until="first")

    assert [step.name for step in plan.steps] == ["first"]
    assert [path.name for path in left_behind(place)] == [plan.run_id]


def spoil_nothing(place):
    return {"until": "typo"}


def spoil_a_name(place):
    (place.environment.inventory / os.fsdecode(b"\xff.yml")).write_text("")
    return {}


def spoil_a_link(place):
    (place.environment.inventory / "more.yml").symlink_to("nowhere.yml")
    return {}


def spoil_a_file(place):
    return {"files": {"x" * 300: ""}}


def spoil_the_runbook(place):
    (place.environment.project / "playbooks/two.yml").write_text("- name: no hosts\n")
    return {}


def spoil_the_state(place):
    (place.environment.state).write_text("in the way")
    return {}


@pytest.mark.parametrize(
    "spoil", [spoil_nothing, spoil_a_name, spoil_a_link, spoil_a_file, spoil_the_runbook, spoil_the_state]
)
def test_no_plan_leaves_no_copy_behind(place, spoil):
    with pytest.raises(UsageError) as caught:
        plans.make_plan(place, "two", {}, **spoil(place))

    assert caught.value.hint
    assert left_behind(place) == []


def test_a_plan_that_was_interrupted_leaves_no_copy_behind(place, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(plans, "plan_digest", interrupted)

    with pytest.raises(KeyboardInterrupt):
        plans.make_plan(place, "two", {})
    assert left_behind(place) == []


def test_a_plan_is_shown_with_the_hosts_of_each_step_and_what_would_change(place):
    plan = plans.make_plan(place, "two", {})
    rows = (
        Result(host="h", task="write", outcome=Outcome.CHANGED, message="+new\n-old"),
        Result(host="h", task="look", outcome=Outcome.OK),
    )
    report = AttemptReport(outcome=Outcome.CHANGED, results=rows)
    seen = Foreseen({"all": ("h",)}, {"first": report}, {"second": "check mode says: no"})

    text = plan.text(seen)

    assert "all = h" in text
    assert "would change:\n          h: write: +new\n          -old" in text
    assert "look" not in text
    assert "not foreseen: check mode says: no" in text
    assert "NO HOST" in plan.text(Foreseen({"all": ()}))
    first, second = plan.to_json(seen)["steps"]
    assert (first["matches"], first["foreseen"], len(first["changes"])) == (["h"], True, 1)
    assert (second["foreseen"], second["why_not"]) == (False, "check mode says: no")
