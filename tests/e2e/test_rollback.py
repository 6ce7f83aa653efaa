"""Rollback on the embedded default: real releases whose slots were stopped, or hold something else by now."""

from __future__ import annotations

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
