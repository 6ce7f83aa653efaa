"""Steps that Ansible does: what the engine asks of a play, and of its probe."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

from mcpops.engine import plays
from mcpops.engine.plays import play_executor, probe_executor
from tests.unit.engine.stand import OK, step


def asked(monkeypatch, executor):
    """What Ansible is called with."""
    calls = []
    monkeypatch.setattr(plays, "run_play", lambda call, *_: calls.append(call) or OK)
    run = SimpleNamespace(id="run-1", runbook="deploy")
    context = SimpleNamespace(run=run, fence=7, number=1, variables={}, snapshot=Path("s"), on_result=None)
    given = step("one", minimum_checks=3, minimum_hosts=2, timeout_s=600)
    context = plays.StepContext(
        **vars(context), seq=1, step=given, cancel=threading.Event(),
    )  # fmt: skip
    executor(context).act()
    return calls[0]


def test_a_play_must_show_what_its_step_says(monkeypatch):
    call = asked(monkeypatch, play_executor(lambda step: step.body))

    assert (call.minimum_checks, call.minimum_hosts, call.timeout_s) == (3, 2, 600)


def test_a_probe_looks_and_need_not_show_as_much_as_its_step(monkeypatch):
    call = asked(monkeypatch, probe_executor(lambda step: "- name: probe"))

    assert (call.minimum_checks, call.minimum_hosts, call.timeout_s) == (1, 1, 120)
    assert (call.name, call.play) == ("probe one", "- name: probe")
