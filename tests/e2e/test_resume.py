"""What a resume may do: not switch in a freeze window, and try again what could not be taken back."""

from __future__ import annotations

import pytest

from tests.e2e.stand import QUICK, Load, Project
from tests.e2e.test_runs import FROZEN


def test_a_run_that_was_killed_before_a_freeze_window_does_not_switch_in_it(project):
    before, name = project.front(), project.environment("halted")
    variables = project.home / "inventories" / name / "group_vars/all.yml"
    with Load(project) as load:
        command = project.start(
            "deploy", project.other(), *QUICK, "-e", name, environment={"MCPOPS_FAILPOINT": "after-intent:stage"}
        )
        assert command.end().code == -9, command.lines
        variables.write_text(variables.read_text().replace("deploy_freeze_windows: []", FROZEN))

        ended = project.run("runs", "resume", command.run_id)

    assert (ended.code, ended.out["state"]) == (5, "rolled_back"), ended.error
    assert "frozen until 2099-01-01T00:00:00Z: the sale" in ended.out["reason"]
    assert {step["name"]: step["state"] for step in ended.out["steps"]}["cutover"] == "pending"
    after = project.front()
    assert [after[key] for key in ("release", "active", "generation")] == [
        before[key] for key in ("release", "active", "generation")
    ]
    assert load.failed == []
    assert ended.out["record"]["verified"] is True


@pytest.mark.slow
def test_the_inventory_says_how_long_the_guards_watch(project):
    name = project.environment("baking", lambda text: f"{text}\nblue_green_bake_s: 2\n")

    ended = project.run("deploy", project.other(), "--drain", "0s", "-e", name)

    assert ended.code == 0, ended.error
    bake = next(step for step in ended.out["steps"] if step["name"] == "bake")
    assert [row["message"] for row in bake["results"]] == ["passed: nothing found in 2 s"]


RUNBOOK = """
- name: mark
  hosts: fronts
  gather_facts: false
  vars:
    step: {undo: true, on_interrupt: rerun, minimum_checks: 3}
  roles:
    - role: marked

- name: switch
  hosts: fronts
  gather_facts: false
  vars:
    step: {direct: cutover}
  tasks: []
"""
MAIN = "".join(f"- name: Check {n}\n  ansible.builtin.assert: {{that: [true]}}\n" for n in (1, 2, 3))
UNDO = """
- name: Take the mark back
  ansible.builtin.assert: {that: ["not (marked_stuck is exists)"]}
"""


@pytest.fixture
def lopsided(project: Project) -> str:
    """An environment, and a runbook whose second step knows no slot; its first is taken back unless it is stuck."""
    tasks = project.home / "roles/marked/tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    (project.home / "playbooks").mkdir(exist_ok=True)
    (project.home / "playbooks/lopsided.yml").write_text(RUNBOOK)
    (tasks / "main.yml").write_text(MAIN)
    (tasks / "undo.yml").write_text(UNDO)
    return project.environment("lopsided")


def test_a_step_that_cannot_be_made_takes_back_and_a_broken_run_is_resumed_once_it_is_mended(project, lopsided):
    stuck = project.home / "stuck"
    stuck.touch()
    ended = project.run("run", "lopsided", "-e", lopsided, "-x", f"marked_stuck={stuck}")
    assert (ended.code, ended.out["state"]) == (7, "broken"), ended.error
    assert "step switch does not know its slot" in ended.out["reason"]
    run_id = ended.out["id"]
    locked = project.run("run", "lopsided", "-e", lopsided)
    assert (locked.code, f"mcpops runs resume {run_id}" in locked.out["error"]["hint"]) == (7, True), locked.error
    again = project.run("runs", "resume", run_id)
    assert (again.code, again.out["state"]) == (7, "broken"), again.error

    stuck.unlink()
    mended = project.run("runs", "resume", run_id)

    assert (mended.code, mended.out["state"]) == (5, "rolled_back"), mended.error
    assert [(step["name"], step["state"], step["attempts"]) for step in mended.out["steps"]] == [
        ("mark", "done", 1),
        ("switch", "failed", 1),
        ("undo mark", "done", 3),
    ]
    assert mended.out["record"]["verified"] is True
    assert project.run("runs", "resume", run_id).code == 2, "it ended"
    anew = project.run("run", "lopsided", "-e", lopsided, "-x", f"marked_stuck={stuck}")
    assert anew.code == 5, "nothing is locked any more"
