"""Taking a step back through Ansible: each use of a role with what the play said of it, and nowhere else."""

from __future__ import annotations

import pytest

from tests.e2e.small import Small

WORK = """\
- name: work
  hosts: machines
  gather_facts: false
  vars: {step: {undo: true, on_interrupt: rerun, minimum_checks: 6}}
  roles:
    - {role: svc, svc_name: a}
    - {role: svc, svc_name: b}
  tasks:
    - when: inventory_hostname == 'm1'
      vars: {svc_name: c}
      block:
        - ansible.builtin.import_role: {name: svc}
    - ansible.builtin.include_role: {name: svc, apply: {no_log: true}}
      vars: {svc_name: d}
      no_log: true
    - name: after the work
      ansible.builtin.fail: {msg: boom}
"""
MAIN = """\
- name: write
  ansible.builtin.copy:
    content: "{{ svc_name }}"
    dest: "{{ mcpops_project }}/{{ inventory_hostname }}-{{ svc_name }}"
    mode: "0600"
"""
UNDO = """\
- name: "remove {{ svc_name }}"
  ansible.builtin.file: {path: "{{ mcpops_project }}/{{ inventory_hostname }}-{{ svc_name }}", state: absent}
- name: log
  ansible.builtin.shell: echo {{ svc_name }} >>{{ mcpops_project }}/{{ inventory_hostname }}.undone
"""


@pytest.fixture
def small(tmp_path):
    made = Small(tmp_path)
    made.role("svc", main=MAIN, undo=UNDO)
    made.write("playbooks/work.yml", WORK)
    return made


def test_each_use_of_a_role_is_taken_back_as_it_was_made_and_only_there(small):
    ended = small.run("run", "work")

    assert ended.code == 5, ended.error
    assert "boom" in ended.out["reason"]
    assert [(small.home / f"{host}.undone").read_text().split() for host in ("m1", "m2")] == [
        ["d", "c", "b", "a"],
        ["d", "b", "a"],
    ]
    assert list(small.home.glob("m?-*")) == []
    said = {row["task"][-1]: row["message"] for row in ended.out["steps"][1]["results"] if "remove" in row["task"]}
    assert "no_log" in said["d"], "what the play hid, its undo hides"
    assert "no_log" not in said["a"]


def test_what_cannot_be_taken_back_is_refused_before_anything_starts(small):
    small.write("playbooks/work.yml", WORK + "    - include_role: {name: svc}\n      loop: [e]\n")

    ended = small.run("run", "work")

    assert ended.code == 2, ended.error
    assert "role 'svc' in a loop" in ended.out["error"]["message"]
    assert ended.out["error"]["where"] == f"{small.home}/playbooks/work.yml:{len(WORK.splitlines()) + 2}"
    assert list(small.home.glob("m?-*")) == []
