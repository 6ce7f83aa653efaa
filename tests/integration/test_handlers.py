"""Handlers that a failure leaves waiting are told: a later run finds nothing changed, and would never run them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcpops.model.outcome import Outcome
from tests.integration.test_play import Stage

HANDLERS = """  handlers:
    - name: restart the service
      ansible.builtin.command: touch {ran}
    - name: reload the proxy
      listen: proxy changed
      ansible.builtin.command: "true"
"""
CHANGE = "    - ansible.builtin.command: 'true'\n      notify: [restart the service, proxy changed]\n"
FAIL = "    - ansible.builtin.command: 'false'\n      when: inventory_hostname == 'f1'\n"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def run(stage: Stage, tasks: str, **more):
    return stage.run(tasks, more=HANDLERS.format(ran=stage.root / "ran"), **more)


def waiting(report) -> list[tuple[str, str]]:
    return sorted((row.host, row.task) for row in report.results if row.task.startswith("handler "))


def test_handlers_that_ran_are_not_told(stage):
    report = run(stage, CHANGE)

    assert (report.outcome, waiting(report)) == (Outcome.CHANGED, [])


def test_handlers_that_a_failure_leaves_are_told_for_each_host(stage):
    report = run(stage, CHANGE + FAIL)

    assert report.outcome is Outcome.FAILED
    assert waiting(report) == [("f1", "handler proxy changed"), ("f1", "handler restart the service")]
    assert "notified, and not run: handler" in report.reason
    assert all("do by hand what it does" in row.message for row in report.results if row.task.startswith("handler "))


def test_handlers_that_the_play_forces_are_not_told(stage):
    report = stage.run(CHANGE + FAIL, more=f"  force_handlers: true\n{HANDLERS.format(ran=stage.root / 'ran')}")

    assert (report.outcome, waiting(report)) == (Outcome.FAILED, [])


def test_a_play_that_ends_before_its_handlers_is_not_good(stage):
    report = run(stage, CHANGE + "    - ansible.builtin.meta: end_play\n", minimum_hosts=1)

    assert not (stage.root / "ran").exists()
    assert report.outcome is Outcome.UNKNOWN
    assert len(waiting(report)) == 4


def test_handlers_after_one_that_failed_are_told(stage):
    more = HANDLERS.format(ran="/nowhere/at/all")

    report = stage.run(CHANGE, more=more, hosts="f1")

    assert report.outcome is Outcome.FAILED
    assert waiting(report) == [("f1", "handler reload the proxy")]


def test_a_handler_that_had_nothing_to_do_has_run(stage):
    handlers = (
        "  handlers:\n    - name: restart the service\n      ansible.builtin.command: 'true'\n      when: false\n"
    )
    change = "    - ansible.builtin.command: 'true'\n      notify: restart the service\n"

    report = stage.run(change, more=handlers)

    assert (report.outcome, waiting(report)) == (Outcome.CHANGED, [])


def test_handlers_of_a_batch_that_failed_are_told(stage):
    more = f"  serial: 1\n  max_fail_percentage: 0\n{HANDLERS.format(ran=stage.root / 'ran')}"

    report = stage.run(CHANGE + FAIL, more=more)

    assert ("f1", "handler restart the service") in waiting(report)
