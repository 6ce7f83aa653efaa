"""Steps that Ansible does: what the engine asks of a play, and of the probes of its roles, which must all agree."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from mcpops.ansible.vault import Vault
from mcpops.engine import plays
from mcpops.engine.plays import Place, ProbeExecution, play_executor, probe_executor
from mcpops.model.outcome import AttemptReport, Outcome, Result
from tests.unit.engine.stand import OK, step


class Told:
    """A play with a given report."""

    def __init__(self, probe: str | None, outcome: Outcome = Outcome.OK) -> None:
        self.asked = False
        results = (Result(host="h", task=str(probe), outcome=outcome),)
        self.report = AttemptReport(outcome=outcome, results=results, outputs={"probe": probe} if probe else {})

    def act(self) -> AttemptReport:
        self.asked = True
        return self.report


@pytest.mark.parametrize(
    ("told", "done", "questions"),
    [
        ([Told("done"), Told("done")], True, 2),
        ([Told("done"), Told("not_done"), Told("done")], False, 2),
        ([Told("not_done"), Told("done")], False, 1),
        ([Told("partial")], False, 1),
        ([Told(None), Told("done")], False, 1),
        ([Told("done", Outcome.FAILED), Told("done")], False, 1),
        ([Told("done"), Told("done", Outcome.UNKNOWN)], False, 2),
        ([], False, 0),
    ],
)
def test_all_must_say_done(told: list[Told], done: bool, questions: int) -> None:
    report = ProbeExecution(told).act()
    assert (report.outcome.good and report.outputs.get("probe") == "done") is done
    assert [play.asked for play in told] == [n < questions for n in range(len(told))]
    assert len(report.results) == questions


def asked(monkeypatch, executor):
    """What Ansible is called with."""
    calls = []
    monkeypatch.setattr(plays, "run_play", lambda call, *_: calls.append(call) or OK)
    run = SimpleNamespace(id="run-1", runbook="deploy")
    context = SimpleNamespace(run=run, fence=7, number=1, variables={}, snapshot=Path("s"), on_result=None)
    given = step("one", minimum_checks=3, minimum_hosts=2, timeout_s=600)
    context = plays.StepContext(
        **vars(context), seq=1, step=given, cancel=threading.Event(), deadline=Path("lease"),
    )  # fmt: skip
    executor(context).act()
    return calls[0]


def test_a_play_must_show_what_its_step_says(monkeypatch):
    call = asked(
        monkeypatch, play_executor(lambda step: step.body, Place(Vault(), local=True, scope="lab", here="lab.1"))
    )

    assert (call.minimum_checks, call.minimum_hosts, call.timeout_s) == (3, 2, 600)
    assert call.local


def test_a_probe_looks_and_need_not_show_as_much_as_its_step(monkeypatch):
    call = asked(
        monkeypatch,
        probe_executor(lambda step: ["- name: probe"], Place(Vault(), local=True, scope="lab", here="lab.1")),
    )

    assert (call.minimum_checks, call.minimum_hosts, call.timeout_s) == (1, 1, 120)
    assert (call.name, call.play) == ("probe one", "- name: probe")
