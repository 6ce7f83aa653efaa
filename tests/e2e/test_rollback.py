"""Rollback on the embedded default: real releases whose slots were stopped, or hold something else by now."""

from __future__ import annotations

import pytest

from tests.e2e.stand import FIRST, NEXT, QUICK, Load, Project


def other_than(release: str | None) -> str:
    return NEXT if release == FIRST else FIRST


def test_without_the_journal_to_a_slot_that_was_retired(project: Project) -> None:
    """The old slot was drained and stopped: it is started first. The journal takes it in, and its fence."""
    before = project.serving()
    assert before
    deployed = project.run("deploy", other_than(before), *QUICK)
    assert deployed.code == 0, deployed.error
    journal = project.home / ".mcpops" / "journal.sqlite"
    journal.rename(journal.with_name("aside"))
    with Load(project) as load:
        ended = project.run("rollback")
    assert not journal.exists()
    journal.with_name("aside").rename(journal)
    assert ended.code == 0, ended.error
    assert project.serving() == before
    assert f"back to {before}" in ended.said
    assert "start it, switch to slot" in ended.said
    assert load.failed == []
    run = project.last_run()
    assert (run["id"], run["runbook"], run["state"]) == (ended.out["id"], "rollback", "done")
    assert run["steps"][0]["hosts"]["changed"] == 1


def test_to_a_release_that_no_slot_holds_any_more(project: Project) -> None:
    """Two deploys later its slot holds another one: it is staged again, from what the front kept of it."""
    before = project.serving()
    third = project.release("time-third")
    deployed = project.run("deploy", third, *QUICK)
    assert deployed.code == 0, "the next deploy outranks a rollback's fence: " + deployed.error
    goal = other_than(before)
    with Load(project) as load:
        ended = project.run("rollback", "--to", goal)
    assert ended.code == 0, ended.error
    assert "stage it again" in ended.said
    assert project.serving() == goal
    assert load.failed == []


def test_in_the_middle_of_a_deploy_it_takes_precedence(project: Project) -> None:
    """The deploy is fenced: it ends by itself, and takes nothing back that the rollback put in force."""
    before = project.serving()
    with Load(project) as load:
        deploy = project.start("deploy", project.other(), "--bake", "120s", "--drain", "0s")
        deploy.until("▸ bake")
        rollback = project.run("rollback")
        fenced = deploy.end(60)
    assert (rollback.code, load.failed) == (0, []), rollback.error
    assert rollback.out["steps"][0]["hosts"]["changed"] == 1
    assert fenced.code == 8, fenced.error
    assert "rollback" in fenced.error, "it says who took over"
    front = project.front()
    assert (front["release"], front["phase"], front["in_sync"]) == (before, "steady", True)
    assert front["fence"]["run"] == rollback.out["id"]
    runs = {run["id"]: (run["state"], run["exit_code"]) for run in project.run("runs", "list").out["runs"]}
    assert runs[deploy.run_id] == ("failed", 8)
    assert runs[rollback.out["id"]] == ("done", 0)
    assert project.run("status").out["lease"] is None, "the next deploy may begin"


def test_a_deploy_that_a_rollback_overtook_is_not_resumed(project: Project) -> None:
    """Whoever was on call wanted what serves to stay: nothing brings the killed deploy back behind their back."""
    before = project.serving()
    with Load(project) as load:
        deploy = project.start("deploy", project.other(), *QUICK)
        deploy.until("▸ prove")
        deploy.kill()
        rollback = project.run("rollback", "--to", str(before))
        resumed = project.run("runs", "resume", deploy.run_id)
    assert (rollback.code, load.failed) == (0, []), rollback.error
    assert (resumed.code, resumed.out["error"]["name"]) == (9, "refused"), resumed.error
    assert rollback.out["id"] in resumed.out["error"]["detail"], "it says who took over"
    assert project.serving() == before
    hint = f"mcpops runs abandon {deploy.run_id} --yes"
    assert hint in resumed.out["error"]["hint"]
    assert project.run(*hint.split()[1:]).code == 0
    assert project.run("status").out["lease"] is None, "the next deploy may begin"


@pytest.mark.slow
def test_while_a_deploy_stages_it_takes_precedence(project: Project) -> None:
    """The slot it goes back to is the one that the deploy is writing to."""
    goal = project.other()
    settled = project.run("deploy", goal, *QUICK)
    assert settled.code == 0, settled.error
    before = project.other()
    third = project.release("time-fourth")
    with Load(project) as load:
        deploy = project.start("deploy", third, *QUICK)
        deploy.until("▸ stage")
        rollback = project.run("rollback", "--to", before)
        fenced = deploy.end(120)
    assert (rollback.code, load.failed) == (0, []), rollback.error
    assert fenced.code == 8, fenced.error
    assert project.serving() == before


def test_what_serves_already_is_said_and_nothing_heavy_is_imported(project: Project) -> None:
    release, generation = project.serving(), project.front()["generation"]
    ended = project.run("rollback", "--to", str(release), environment={"PYTHONPROFILEIMPORTTIME": "1"})
    assert ended.code == 0, ended.error
    assert ended.out["steps"][0]["hosts"]["changed"] == 0
    assert project.front()["generation"] == generation
    imported = {line.rpartition("|")[2].strip() for line in ended.said.splitlines() if line.startswith("import time:")}
    assert "mcpops.deploy.rollback" in imported
    roots = {name.partition(".")[0] for name in imported}
    assert roots & {"ansible", "ansible_runner", "sqlalchemy", "jsonschema"} == set()
    assert not any(name.startswith(("mcpops.ansible", "mcpops.journal", "mcpops.engine")) for name in imported)


def test_a_release_that_was_never_verified_or_is_not_known_is_refused(project: Project) -> None:
    before = project.front()
    staged = project.release("time-unproved")
    assert project.run("deploy", staged, "--until", "stage").code == 0
    unproved, unknown = (project.run("rollback", "--to", name) for name in (staged, "time-1999"))
    assert (unproved.code, unknown.code) == (9, 2), unproved.error + unknown.error
    assert f"{staged} was never verified" in unproved.error
    assert all(name in unknown.error for name in (FIRST, NEXT)), "it names the known ones"
    after = project.front()
    assert [after[key] for key in ("release", "generation")] == [before[key] for key in ("release", "generation")]
