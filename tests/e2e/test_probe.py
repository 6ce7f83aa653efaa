"""A crash in a step of several roles: the probes are asked, and the step is done only if all of them say so."""

from __future__ import annotations

import pytest

from tests.e2e.small import Small
from tests.e2e.stand import wait_for

PROBE = """\
- name: look
  ansible.builtin.stat: {path: "{{ mcpops_project }}/{{ inventory_hostname }}-{{ role_name }}"}
  register: seen
- name: tell
  ansible.builtin.set_stats:
    data: {probe: "{{ 'done' if all_seen | min else 'no' }}"}
    aggregate: false
  vars:
    all_seen: "{{ ansible_play_hosts_all | map('extract', hostvars, ['seen', 'stat', 'exists']) | list }}"
  run_once: true
"""
WRITE = """\
ansible.builtin.file:
    path: "{{ mcpops_project }}/{{ inventory_hostname }}-{{ role_name }}"
    state: touch
    mode: "0600"
"""
# Hangs once: the test kills mcpops meanwhile.
HANG = "ansible.builtin.shell: test -e {{ mcpops_project }}/hung || { touch {{ mcpops_project }}/hung; sleep 300; }"


@pytest.mark.parametrize(("hangs", "attempts"), [("before", 2), ("after", 1)])
def test_a_step_is_done_when_each_of_its_roles_is(tmp_path, hangs, attempts):
    small = Small(tmp_path)
    small.role("one", main=f"- {WRITE}\n", probe=PROBE)
    tasks = [HANG, WRITE] if hangs == "before" else [WRITE, HANG]
    small.role("two", main="".join(f"- {task}\n" for task in tasks), probe=PROBE)
    small.write("playbooks/work.yml", "- name: work\n  hosts: machines\n  gather_facts: false\n  roles: [one, two]\n")
    command = small.start("run", "work")
    wait_for((tmp_path / "hung").exists, 60, "the second role has begun")
    command.kill()

    ended = small.run("runs", "resume", command.run_id)

    assert ended.code == 0, ended.error
    assert len(list(tmp_path.glob("m?-two"))) == 2
    assert ended.out["steps"][0]["attempts"] == attempts
