"""A plan shows steps, hosts and what would change, and starts nothing; the record can be exported, anchored, pruned."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from mcpops.cli import wire
from mcpops.cli.common import Session
from mcpops.cli.plan import make_plan
from tests.e2e.small import Small
from tests.e2e.test_queue import RUNBOOK


@pytest.fixture
def small(tmp_path) -> Small:
    small = Small(tmp_path)
    small.write("playbooks/work.yml", RUNBOOK)
    small.write("inventories/small/group_vars/all.yml", f"effects: {tmp_path}/effects\n")
    return small


def test_a_plan_shows_hosts_and_differences_and_changes_nothing(small):
    planned = small.run("run", "work", "--plan")

    assert planned.code == 0, planned.error
    one, _, three = planned.out["steps"]
    assert one["matches"] == ["m1"]
    assert three["matches"] == ["m1", "m2"]
    changes = {row["host"]: row["message"] for row in three["changes"]}
    assert sorted(changes) == ["m1", "m2"]
    assert "+m2" in changes["m2"]
    assert not list(small.home.glob("effects*"))
    assert small.run("runs", "list").out["runs"] == []
    assert not list((small.home / ".mcpops/small/runs").glob("*"))

    assert small.run("run", "work").code == 0
    again = small.run("run", "work", "--plan").out
    assert again["steps"][2]["changes"] == [], "it is so already"
    assert again["plan_digest"] == planned.out["plan_digest"]


def digest(small: Small) -> str:
    """The digest alone, without asking Ansible what would change."""
    place = wire.open_workplace(Session(project=small.home, environment="small"))
    return make_plan(place, "work", {}).digest


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("playbooks/work.yml", "echo two", "echo 2"),
        ("inventories/small/group_vars/all.yml", "effects:", "more: 1\neffects:"),
        ("roles/any/tasks/main.yml", "", "[]"),
        ("approvers", "", "ada ssh-ed25519 AAAA\n"),
    ],
)
def test_the_digest_covers_what_the_run_uses(small, name, old, new):
    before = digest(small)
    path = small.home / name
    small.write(name, path.read_text().replace(old, new) if path.exists() else new)

    assert digest(small) != before


def test_a_step_that_check_mode_cannot_judge_is_unforeseen_and_one_without_hosts_says_so(small):
    small.write(
        "playbooks/odd.yml",
        "- {name: gone, hosts: nobody, gather_facts: false, tasks: []}\n"
        "- {name: needs, hosts: m1, gather_facts: false, tasks: [{ansible.builtin.debug: {msg: '{{ earlier.x }}'}}]}\n",
    )

    steps = small.run("run", "odd", "--plan").out["steps"]

    assert [(step["foreseen"], step["matches"]) for step in steps] == [(False, []), (False, ["m1"])]
    assert "earlier" in steps[1]["why_not"]


def test_the_record_is_exported_anchored_and_let_go(small):
    small.write("mcpops.yml", "anchor: {directory: anchors}\n")
    assert small.run("run", "work").code == 0
    (anchor,) = (small.home / "anchors/anchors").iterdir()
    assert json.loads(anchor.read_text())["number"] == 1
    verified = small.run("journal", "verify").out
    assert (verified["verdict"], verified["anchors"]) == ("passed", 1)
    export = small.write("export.jsonl", small.text("journal", "export", "-q"))
    assert small.run("journal", "verify", "--export", str(export)).out["verdict"] == "passed"
    export.write_text(export.read_text().replace('"done"', '"DONE"', 1))
    assert small.run("journal", "verify", "--export", str(export)).code == 1

    refused = small.run("journal", "prune", "--older-than", "0s")
    assert (refused.code, refused.out["error"]["name"]) == (9, "refused")
    assert len(small.run("journal", "prune", "--older-than", "0s", "--yes").out["pruned"]) == 1
    assert small.run("runs", "list").out["runs"] == []
    assert small.run("journal", "verify").out["verdict"] == "passed"
    assert not list((small.home / ".mcpops/small/runs").iterdir())

    with closing(sqlite3.connect(small.home / ".mcpops/journal.sqlite")) as journal, journal:
        journal.execute("DELETE FROM seal")
    wrong = small.run("journal", "verify")
    assert (wrong.code, "seal" in wrong.out["problem"]) == (1, True)


def test_anchors_that_do_not_answer_are_unknown(small):
    small.write("mcpops.yml", "anchor: {directory: anchors}\n")
    assert small.run("run", "work", "--until", "one").code == 0
    (small.home / "anchors").rename(small.home / "elsewhere")

    verdict = small.run("journal", "verify")

    assert (verdict.code, verdict.out["verdict"]) == (3, "unknown")
