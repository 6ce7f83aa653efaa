from __future__ import annotations

from pathlib import Path

import yaml

from mcpops.model.step import Step
from mcpops.runbook.derive import probe_play, undo_play
from mcpops.runbook.load import load_runbook

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
    play = yaml.safe_load(probe_play(step(project)).replace("!vault", ""))[0]
    assert play["name"] == "probe: work"
    assert {task["ansible.builtin.import_role"]["tasks_from"] for task in play["tasks"]} == {"probe"}
