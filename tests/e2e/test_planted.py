"""Twelve planted secrets, each through a way of its own by which values leave a play: none is found anywhere after it.

Looked through are the journal, all files of the project's state, what is printed, exports, notices, what is left in
memory file systems, and, while it runs, the command lines and environments of all its processes.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from mcpops.core.proc import descendants, pids
from tests.e2e.small import LOCAL, Small, Vault
from tests.e2e.stand import Command
from tests.e2e.test_vault import forms

PLANTED = {f"s{n:02}": f"Planted/{n:02}+Zebra&{n * 7919:06x}" for n in range(1, 13)}

BOOM = """\
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={"value": {"type": "str"}, "how": {"type": "str"}})
if module.params["how"] == "warn":
    module.exit_json(changed=True, warnings=["look at " + module.params["value"]], secret=module.params["value"])
raise RuntimeError("what is " + module.params["value"])
"""
PLAYBOOK = """\
- name: planted
  hosts: machines
  gather_facts: false
  vars: {step: {on_interrupt: rerun}, told: "{{ s01 }}"}
  handlers:
    - name: "handle {{ s12 }}"
      listen: call
      ansible.builtin.debug: {msg: "{{ s12 }}"}
  tasks:
    - {name: a variable, ansible.builtin.debug: {msg: "{{ told }}"}}
    - {name: a whole file of the vault, ansible.builtin.debug: {var: s02}}
    - {name: standard output, ansible.builtin.command: {cmd: cat, stdin: "{{ s03 }}"}}
    - {name: standard error, ansible.builtin.shell: {cmd: cat >&2; exit 1, stdin: "{{ s04 }}"}, ignore_errors: true}
    - {name: an exception, boom: {value: "{{ s05 }}", how: raise}, ignore_errors: true}
    - {name: an item, ansible.builtin.debug: {msg: x}, loop: ["{{ s06 }}", "{{ s06 | b64encode }}"]}
    - {name: a template error, ansible.builtin.debug: {msg: "{{ ('{' ~ s07) | from_json }}"}, ignore_errors: true}
    - name: a difference
      ansible.builtin.copy:
        content: "{{ s08 | urlencode }} {{ s08 }}\\n"
        dest: "{{ mcpops_project }}/{{ inventory_hostname }}.txt"
        mode: "0600"
      diff: true
    - {name: a warning, boom: {value: "{{ s09 }}", how: warn}}
    - {name: "the name {{ s10 }}", ansible.builtin.debug: {msg: x}}
    - {name: a handler, ansible.builtin.command: "true", notify: call}
    - {name: a statistic, ansible.builtin.set_stats: {data: {handed: "{{ s11 }}"}}, run_once: true}
    - {name: the end, ansible.builtin.fail: {msg: "{{ s01 }} {{ s02 }} {{ s12 }}"}}
"""


class Watch(threading.Thread):
    """Reads the command lines and environments of a command's processes for as long as it runs."""

    def __init__(self, command: Command) -> None:
        super().__init__()
        self.command, self.found, self.looks = command, set(), 0

    def run(self) -> None:
        while self.command.process.poll() is None:
            for pid in [self.command.process.pid, *descendants(self.command.process.pid)]:
                for name in ("cmdline", "environ"):
                    try:
                        text = Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
                    except OSError:
                        continue
                    self.looks += 1
                    self.found |= {f"{key} in {name} of {text[:60]!r}" for key in seen_in(text)}


def seen_in(text: str) -> set[str]:
    return {key for key, secret in PLANTED.items() if any(form in text for form in forms(secret))}


@pytest.fixture
def small(tmp_path) -> Small:
    small = Small(tmp_path, f"machines: {{hosts: {{m1: {LOCAL}}}}}\n")
    small.write("playbooks/planted.yml", PLAYBOOK)
    small.write("plugins/modules/boom.py", BOOM)
    # As loud as Ansible can be.
    small.write("ansible.cfg", "[defaults]\nlibrary = plugins/modules\nverbosity = 3\n")
    small.write(
        "mcpops.yml", f"notify: [{{name: file, command: [tee, -a, {tmp_path}/notices]}}]\nanchor: {{directory: a}}\n"
    )
    return small


def everything(small: Small) -> tuple[str, Watch]:
    """Run it, and return all that anybody can read afterwards."""
    command = small.start("run", "planted")
    watch = Watch(command)
    watch.start()
    ended = command.end()
    watch.join()
    assert ended.code in (1, 3), ended.error
    run_id = ended.out["id"]
    asked = (
        ("runs", "list"), ("runs", "show", "-v", run_id), ("runs", "show", run_id, "--json"), ("journal", "export"),
        ("runs", "export", run_id), ("runs", "watch", run_id), ("journal", "verify", "--json"), ("status", "--json"),
    )  # fmt: skip
    told = [ended.said, json.dumps(ended.out), *(small.text(*argv) for argv in asked)]
    places = [small.home / ".mcpops", small.home / "a", small.home / "notices", *Path("/dev/shm").glob("mcpops-*")]
    for place in places:
        files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
        told += [path.read_bytes().decode("utf-8", "replace") for path in files if path.stat().st_uid == os.getuid()]
    return "\n".join(told), watch


def test_none_of_twelve_is_found_anywhere(small, tmp_path):
    vault = Vault(tmp_path / "password", "opensesame")
    small.environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(vault.password_file)
    whole = {key: secret for key, secret in PLANTED.items() if key in ("s02", "s12")}
    inline = "\n".join(vault.inline(key, secret) for key, secret in PLANTED.items() if key not in whole)
    small.write("inventories/small/group_vars/all/inline.yml", inline)
    small.write("inventories/small/group_vars/all/whole.yml", vault.whole(json.dumps(whole)))

    told, watch = everything(small)

    assert (small.home / "m1.txt").read_text().endswith(f" {PLANTED['s08']}\n"), "the play did have the values"
    assert "***" in told
    assert seen_in(told) == set()
    assert watch.found == set()
    assert watch.looks > 100
    assert len(list(pids())) > 1


@pytest.mark.slow
def test_without_the_vault_they_are_found(small):
    """The negative control: each way does lead outside, when nobody calls the value a secret."""
    small.write("inventories/small/group_vars/all/plain.yml", json.dumps(PLANTED))

    told, _ = everything(small)

    # A warning goes no way into the record at all, so nothing is found of it in either case.
    assert seen_in(told) >= set(PLANTED) - {"s09"}
