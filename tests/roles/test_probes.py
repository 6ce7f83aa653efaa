"""The probes of roles, asked as after a crash: done means done on every host."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mcpops.ansible.play import PlayCall, run_play
from mcpops.engine.execution import DONE, PROBE
from mcpops.model.outcome import AttemptReport

ROOT = Path(__file__).parents[2]
LOCAL = "ansible_connection: local, ansible_python_interpreter: '{{ ansible_playbook_python }}'"
# Answers `status` as the file beside it says.
PROGRAM = "import pathlib; print(pathlib.Path(__file__).with_name('status.json').read_text())\n"


class Hosts:
    """Two hosts on this machine, each with a directory of its own, and plays of our roles on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inventory = root / "hosts.yml"
        self.inventory.write_text(f"fronts: {{hosts: {{h1: {{{LOCAL}}}, h2: {{{LOCAL}}}}}}}\n")
        for host in ("h1", "h2"):
            self.home(host).mkdir()

    def home(self, host: str) -> Path:
        return self.root / host

    def play(self, role: str, tasks: str, variables: dict[str, Any]) -> AttemptReport:
        text = (
            "- name: step\n  hosts: fronts\n  gather_facts: false\n  vars:\n"
            + "".join(f"    {name}: {json.dumps(value)}\n" for name, value in variables.items())
            + f"  tasks:\n    - ansible.builtin.import_role: {{name: {role}, tasks_from: {tasks}}}\n"
        )
        call = PlayCall(
            name="step", play=text, tree=ROOT, inventory=self.inventory, attempt=1, fence=1,
            run_id=f"test-{os.getpid()}-{time.monotonic_ns()}",
        )  # fmt: skip
        return run_play(call, lambda _: None, threading.Event())


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def asked(hosts: Hosts, role: str, variables: dict[str, Any]) -> str:
    report = hosts.play(role, "probe", variables)
    assert report.outcome.good, report.reason
    return str(report.outputs[PROBE])


def test_hostside_is_done_when_every_host_has_exactly_this_program(hosts: Hosts) -> None:
    home = f"{hosts.root}/{{{{ inventory_hostname }}}}"
    variables = {"hostside_path": f"{home}/hostside.pyz", "service_state_dir": f"{home}/state"}
    assert asked(hosts, "hostside", variables) == "not_done"
    assert hosts.play("hostside", "main", variables).outcome.good
    assert asked(hosts, "hostside", variables) == DONE
    program = hosts.home("h2") / "hostside.pyz"
    program.write_bytes(program.read_bytes() + b"old")
    assert asked(hosts, "hostside", variables) == "partial"
    program.unlink()
    assert asked(hosts, "hostside", variables) == "partial"


def test_the_front_is_done_when_every_host_runs_what_the_variables_say(hosts: Hosts) -> None:
    for host, sync in (("h1", True), ("h2", None)):
        (hosts.home(host) / "program.py").write_text(PROGRAM)
        (hosts.home(host) / "status.json").write_text(json.dumps({"in_sync": sync}))
    home = f"{hosts.root}/{{{{ inventory_hostname }}}}"
    variables = {
        "front_hostside_path": f"{home}/program.py",
        "front_state_dir": home,
        "front_service": "time",
        "front_port": 1,
        "front_slots": {slot: {"address": "127.0.0.1", "port": n} for n, slot in ((2, "blue"), (3, "green"))},
        "front_certificate": "/none",
        "front_haproxy": "/bin/true",
        "__front_started": {"changed": True},  # no reload
    }
    assert asked(hosts, "front", variables) == "not_done"
    assert hosts.play("front", "configure", variables).outcome.good
    assert asked(hosts, "front", variables) == "partial"
    (hosts.home("h2") / "status.json").write_text(json.dumps({"in_sync": True}))
    assert asked(hosts, "front", variables) == DONE
    assert asked(hosts, "front", variables | {"front_port": 4}) == "not_done"
    (hosts.home("h2") / "haproxy.cfg").unlink()
    assert asked(hosts, "front", variables) == "partial"
    (hosts.home("h2") / "program.py").unlink()
    assert asked(hosts, "front", variables) == "partial"
    assert not (hosts.home("h2") / "haproxy.cfg").exists(), "a probe changes nothing"
