"""Which payloads a task may need: checked against the sources of Ansible's own action plugins."""

from __future__ import annotations

import re
from pathlib import Path

import ansible.plugins.action
import pytest

from mcpops.warm.payloads import demand

ACTIONS = sorted(Path(ansible.plugins.action.__file__).parent.glob("[!_]*.py"))
CALLS = re.compile(
    r"_execute_module\(\s*(?:module_name=)?['\"]ansible\.legacy\.(\w+)|module_name=['\"]ansible\.legacy\.(\w+)"
)


@pytest.fixture(autouse=True)
def own_plugins(monkeypatch):
    monkeypatch.setattr(demand, "_has_foreign_plugin", lambda *_: False)


@pytest.mark.parametrize("source", ACTIONS, ids=lambda path: path.stem)
def test_every_module_that_an_action_of_ansible_calls_is_wanted(source):
    called = {first or second for first, second in CALLS.findall(source.read_text())}
    assert called <= (demand.wanted(f"ansible.builtin.{source.stem}", ()) or set())


def test_every_module_that_all_actions_may_call_is_wanted():
    source = Path(ansible.plugins.action.__file__)
    called = {first or second for first, second in CALLS.findall(source.read_text())}
    assert len(called) > 3
    assert called <= (demand.wanted("ping", ()) or set())


def test_a_name_that_is_not_known_yet_wants_all():
    assert demand.wanted("{{ action }}", ()) is None


def test_a_plugin_that_is_not_ansibles_wants_all(monkeypatch):
    monkeypatch.setattr(demand, "_has_foreign_plugin", lambda *_: True)
    assert demand.wanted("demo.words.say", ()) is None
