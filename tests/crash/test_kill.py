"""kill -9 of `mcpops deploy` in each step and between its writes, then `mcpops runs resume`: nothing is lost.

The short form kills in a step, after the switch, and while a switch is taken back; `pytest -m slow tests/crash` in all
other places.
"""

from __future__ import annotations

from typing import Any

import pytest

from mcpops.ansible.call import MARKER
from mcpops.core.proc import with_environment
from tests.e2e.stand import QUICK, Command, Ended, Load, Project, wait_for

SHORT_STEPS = ("stage",)
LONG_STEPS = ("preflight", "prove", "cutover", "bake", "record", "drain", "retire")
DIRECT = ("cutover", "bake")  # done by mcpops itself, over its channels
SHORT_POINTS = ("before-outcome:cutover",)
LONG_POINTS = (
    "after-intent:cutover",
    *(
        f"{when}:{step}"
        for step in ("preflight", "stage", "prove", "bake", "record", "drain", "retire")
        for when in ("after-intent", "before-outcome")
    ),
    "before-end",
)


def steps(short: tuple[str, ...], long: tuple[str, ...]) -> list[Any]:
    """The cases of the short form, and those of the long one with its mark."""
    return [*short, *(pytest.param(name, marks=pytest.mark.slow) for name in long)]


@pytest.mark.parametrize("step", steps(SHORT_STEPS, LONG_STEPS))
def test_a_deploy_that_was_killed_in_a_step_is_resumed(project, step):
    wanted = project.other()
    with Load(project) as load:
        command = project.start("deploy", wanted, "--bake", "3s", "--drain", "2s")
        command.until(f"▸ {step}")
        if step not in DIRECT:
            wait_for(lambda: left(command), 30, f"the process of {step} begins")
        command.kill()
        ended = resumed(project, command)

    assert load.failed == []
    is_deployed(project, ended, wanted)


@pytest.mark.parametrize("point", steps(SHORT_POINTS, LONG_POINTS))
def test_a_deploy_that_was_killed_between_its_writes_is_resumed(project, point):
    wanted, before = project.other(), project.front()
    with Load(project) as load:
        command = project.start("deploy", wanted, *QUICK, environment={"MCPOPS_FAILPOINT": point})
        assert command.end().code == -9, command.lines
        if point == "after-intent:cutover":
            assert project.front()["generation"] == before["generation"], "nothing was switched yet"
        ended = resumed(project, command)

    assert load.failed == []
    is_deployed(project, ended, wanted)
    assert project.front()["generation"] == before["generation"] + 1, "it was switched once, not twice"


@pytest.mark.parametrize(
    "point",
    steps(
        ("after-intent:undo cutover",),
        ("before-outcome:bake", "before-outcome:undo cutover", "after-intent:undo stage", "before-outcome:undo stage"),
    ),
)
def test_a_deploy_that_was_killed_while_it_was_taken_back_is_taken_back(project, point):
    before = project.front()
    with Load(project) as load:
        command = project.start(
            "deploy", "time-broken", "--bake", "10s", "--drain", "0s", environment={"MCPOPS_FAILPOINT": point}
        )
        assert command.end().code == -9, command.lines
        ended = resumed(project, command)

    after = project.front()
    assert (ended.code, ended.out["state"]) == (5, "rolled_back"), ended.error
    assert len(load.failed) <= 5, load.failed
    assert [after[key] for key in ("release", "active", "phase")] == [before["release"], before["active"], "steady"]
    assert left(command) == []


@pytest.mark.slow
def test_a_resume_that_is_killed_too_is_resumed(project):
    wanted = project.other()
    with Load(project) as load:
        command = project.start("deploy", wanted, *QUICK)
        command.until("▸ stage")
        command.kill()
        again = project.start("runs", "resume", command.run_id)
        again.until("▸ stage")
        again.kill()
        ended = resumed(project, command)

    assert load.failed == []
    is_deployed(project, ended, wanted)
    stage = next(step for step in ended.out["steps"] if step["name"] == "stage")
    assert stage["attempts"] == 3


@pytest.mark.slow
def test_an_interrupted_run_is_given_up_and_the_next_deploy_goes_through(project):
    wanted = project.other()
    with Load(project) as load:
        command = project.start("deploy", wanted, *QUICK)
        command.until("▸ bake")
        command.kill()
        assert project.run("deploy", wanted, *QUICK).code == 4
        assert project.run("runs", "abandon", command.run_id, "--yes").code == 0
        ended = project.run("deploy", wanted, *QUICK)

    assert (ended.code, load.failed) == (0, []), ended.error
    assert project.serving() == wanted
    assert project.front()["phase"] == "steady"


def resumed(project: Project, command: Command) -> Ended:
    """Resume what was killed, as the on-call engineer does; the deploy's processes are gone by themselves before."""
    wait_for(lambda: left(command) == [], 30, f"the processes of run {command.run_id} end with it")
    ended = project.run("runs", "resume", command.run_id)
    assert left(command) == []
    return ended


def left(command: Command) -> list[int]:
    """The processes of this machine that belong to attempts of the run."""
    return with_environment(MARKER, lambda marker: marker.startswith(f"{command.run_id}:"))


def is_deployed(project: Project, ended: Ended, wanted: str) -> None:
    """The run ended well, one slot is active, the other is stopped, and the record is whole."""
    assert (ended.code, ended.out["state"]) == (0, "done"), ended.error
    front = project.front()
    assert (front["release"], front["phase"], front["in_sync"]) == (wanted, "steady", True)
    idle = "green" if front["active"] == "blue" else "blue"
    assert [front["slots"][slot]["running"] for slot in (front["active"], idle)] == [True, False]
    assert {step["state"] for step in ended.out["steps"]} == {"done"}
    assert ended.out["record"]["verified"] is True
    verified = {release["name"] for release in front["releases"] if release["verified_at"]}
    assert wanted in verified
