from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mcpops.core.errors import ExitCode, UsageError
from mcpops.model.step import OnInterrupt, StepKind
from mcpops.runbook.load import load_runbook
from mcpops.runbook.schema import STEP_SCHEMA

BAD = yaml.safe_load(Path(__file__).with_name("bad_runbooks.yml").read_text())

GOOD = """\
---
# A comment - with a dash.
- name: first
  hosts: fronts
  vars:
    step: {timeout_s: 12.5, minimum_hosts: 2, minimum_checks: 3, undo: true}
    text: |
      - name: not a play
        hosts: nobody
  roles:
    - role: ok

- name: ask
  hosts: [fronts, backs]
  vars: {step: {gate: approval}}
  tasks: []
-
  name: third
  hosts: all
  vars: {secret: !vault "abc", step: {direct: bake, commits: true, on_interrupt: rerun}}
  tasks:
    - ansible.builtin.import_role: {name: bare, tasks_from: main}
    - block:
        - include_role: {name: ok}
"""


def write(project: Path, text: str) -> Path:
    path = project / "playbooks" / "book.yml"
    path.write_text(text)
    return path


def test_each_play_is_a_step(project: Path) -> None:
    runbook = load_runbook(write(project, GOOD))
    first, ask, third = runbook.steps
    assert runbook.name == "book"
    assert runbook.digest.startswith("sha256:")
    assert (first.name, first.kind, first.hosts, first.line) == ("first", StepKind.PLAY, "fronts", 3)
    assert (first.timeout_s, first.minimum_hosts, first.minimum_checks, first.undo) == (12.5, 2, 3, True)
    assert (ask.kind, ask.gate, ask.hosts) == (StepKind.GATE, "approval", "fronts:backs")
    assert (third.direct, third.commits, third.on_interrupt) == ("bake", True, OnInterrupt.RERUN)
    assert third.roles == ("bare", "ok")


def test_the_text_of_a_step_keeps_its_lines_and_tags(project: Path) -> None:
    runbook = load_runbook(write(project, GOOD))
    lines = GOOD.split("\n")
    for step in runbook.steps:
        body = step.body.split("\n")
        for number, line in enumerate(body):
            assert line in ("", lines[number])
        names = [plays.value[0][1].value for plays in yaml.compose(step.body).value]
        assert names == [step.name]
    assert "- name: not a play" in runbook.steps[0].body
    assert '!vault "abc"' in runbook.steps[2].body
    assert runbook.steps[2].body.split("\n")[17 - 1] == "-"


def test_without_on_interrupt_a_crash_is_probed_where_that_is_possible_and_asked_about_where_not(project: Path) -> None:
    texts = {
        "roles: [ok]": OnInterrupt.PROBE,
        "tasks: [{block: [{import_role: {name: ok, tasks_from: main.yml}}]}]": OnInterrupt.PROBE,
        "roles: [ok, bare]": OnInterrupt.ASK,
        "tasks: []": OnInterrupt.ASK,
        # A probe tells about the whole role, and about nothing that a play does beside it.
        "tasks: [{import_role: {name: ok, tasks_from: verify}}]": OnInterrupt.ASK,
        "{roles: [ok], tasks: [{command: migrate}]}": OnInterrupt.ASK,
        "tasks: [{include_role: {name: ok}, loop: [1]}]": OnInterrupt.ASK,
        "tasks: [{include_role: {name: '{{ which }}'}}]": OnInterrupt.ASK,
    }
    plays = [{"name": str(n), "hosts": "x", **yaml.safe_load(text)} for n, text in enumerate(texts)]
    steps = load_runbook(write(project, yaml.safe_dump(plays))).steps
    assert [step.on_interrupt for step in steps] == list(texts.values())


@pytest.mark.parametrize("case", BAD, ids=[case["name"] for case in BAD])
def test_bad_runbooks_name_every_problem_with_its_line(project: Path, case: dict[str, Any]) -> None:
    path = write(project, case["given"].replace("{ok}", "ok").replace("{bare}", "bare"))
    with pytest.raises(UsageError) as caught:
        load_runbook(path)
    found = caught.value.detail.split("\n")
    assert caught.value.code is ExitCode.USAGE
    assert caught.value.hint
    assert len(found) == len(case["expected"]), found
    for line, (number, part) in zip(found, case["expected"], strict=True):
        assert line.startswith(f"{path}:{number}: "), line
        assert part in line


def test_bytes_that_are_not_utf8_name_their_line(project: Path) -> None:
    path = project / "playbooks" / "book.yml"
    path.write_bytes(b"- name: a\n  hosts: \xff\n")
    with pytest.raises(UsageError, match="0xff is not UTF-8") as caught:
        load_runbook(path)
    assert caught.value.where == f"{path}:2"


def test_a_runbook_that_is_not_there(project: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_runbook(project / "playbooks" / "none.yml")


def test_a_byte_order_mark_and_windows_lines_are_fine(project: Path) -> None:
    path = project / "playbooks" / "book.yml"
    path.write_bytes(b"\xef\xbb\xbf- name: a\r\n  hosts: x\r\n- name: b\r\n  hosts: x\r\n")
    steps = load_runbook(path).steps
    assert [(step.name, step.hosts) for step in steps] == [("a", "x"), ("b", "x")]


def test_every_option_has_a_description_and_an_example() -> None:
    for name, option in STEP_SCHEMA["properties"].items():
        assert option["description"].endswith("."), name
        assert option["examples"], name
