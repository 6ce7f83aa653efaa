from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.playbook.role.include import RoleInclude

from mcpops.model.step import Step
from mcpops.runbook.derive import probe_plays, undo_play
from mcpops.runbook.load import load_runbook
from mcpops.runbook.uses import ROLE_KEYWORDS

BOOK = """\
- name: work
  hosts: "{{ target | default('fronts') }}"
  gather_facts: false
  become: true
  vars: {step: {undo: true}, key: !vault "abc", port: "0123"}
  handlers: [{name: h, ansible.builtin.debug: {}}]
  pre_tasks:
    - import_role: {name: bare}
  roles:
    - role: ok
      vars: {which: one}
      when: yes_please
    - {role: ok, vars: {which: two}}
  tasks:
    - ansible.builtin.import_role: {name: ok, tasks_from: verify}
      vars: {which: two}
    - ansible.builtin.debug: {msg: not a role}
"""


def step(project: Path, text: str = BOOK) -> Step:
    for name in ("undo", "probe"):
        (project / "roles" / "bare" / "tasks" / f"{name}.yml").write_text("[]\n")
    path = project / "playbooks" / "book.yml"
    path.write_text(text)
    return load_runbook(path).steps[0]


def test_undo_takes_the_roles_back_last_first_each_with_its_settings(project: Path) -> None:
    text = undo_play(step(project))
    play = yaml.safe_load(text.replace("!vault", ""))[0]
    roles = [(task["ansible.builtin.import_role"], task.get("vars"), task.get("when")) for task in play["tasks"]]
    assert roles == [
        ({"name": "ok", "tasks_from": "undo"}, {"which": "two"}, None),
        ({"name": "ok", "tasks_from": "undo"}, {"which": "one"}, "yes_please"),
        ({"name": "bare", "tasks_from": "undo"}, None, None),
    ]
    assert play["hosts"] == "{{ target | default('fronts') }}"
    assert (play["become"], play["gather_facts"], play["vars"]["port"]) == (True, False, "0123")
    assert not {"roles", "pre_tasks", "handlers"} & play.keys()
    assert "!vault" in text


def test_probe_asks_the_same_roles(project: Path) -> None:
    plays = [yaml.safe_load(text.replace("!vault", ""))[0] for text in probe_plays(step(project))]
    assert {play["name"] for play in plays} == {"probe: work"}
    asked = [(task["ansible.builtin.import_role"], task.get("vars")) for play in plays for task in play["tasks"]]
    assert asked == [
        ({"name": "bare", "tasks_from": "probe"}, None),
        ({"name": "ok", "tasks_from": "probe"}, {"which": "one"}),
        ({"name": "ok", "tasks_from": "probe"}, {"which": "two"}),
    ]


CASES = yaml.safe_load(Path(__file__).with_name("derived.yml").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_what_a_play_says_of_a_role_is_said_of_its_undo(project: Path, case: dict[str, Any]) -> None:
    body = yaml.safe_dump([{"name": "work", "hosts": "fronts", "vars": {"step": {"undo": True}}, **case["given"]}])
    tasks = yaml.safe_load(undo_play(step(project, body)))[0]["tasks"]
    assert [plainly(task) for task in tasks] == case["expected"]


def plainly(task: dict[str, Any]) -> dict[str, Any]:
    """A task without what is the same in all."""
    if "block" in task:
        return {**task, "block": [plainly(inner) for inner in task["block"]]}
    call = task.pop("ansible.builtin.import_role")
    assert (call.pop("tasks_from"), task.pop("name")) == ("undo", f"undo {call['name']}")
    return {"undo": call.pop("name"), **call, **task}


def test_the_words_of_a_role_entry_are_those_of_ansible() -> None:
    assert set(RoleInclude.fattributes) == ROLE_KEYWORDS
