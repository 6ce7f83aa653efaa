"""What people do with runs: who is busy, approval, freeze, Ctrl-C and resume, watching; and nothing secret shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from mcpops.core.person import whoami
from tests.e2e.stand import NEXT, QUICK, Load, Project
from tests.people import Person

STAGED = ("--until", "stage")


def test_a_second_deploy_is_told_who_is_busy_since_when_and_what_to_do(project):
    first = project.start("deploy", project.other(), *STAGED)
    first.until("▸ preflight")

    second = project.run("deploy", project.other(), *QUICK)

    assert first.end().code == 0
    assert second.code == 4, second.error
    error = second.out["error"]
    assert (error["code"], error["name"]) == (4, "busy")
    assert first.run_id in error["detail"]
    assert re.search(r"since \d{4}-\d\d-\d\dT", error["detail"])
    assert f"mcpops runs watch {first.run_id}" in error["hint"]
    assert "mcpops rollback" in error["hint"]


@pytest.fixture(scope="module")
def bob(tmp_path_factory) -> Person:
    """Another person."""
    return Person.make(tmp_path_factory.mktemp("bob"), "bob@example.com")


@pytest.fixture(scope="module")
def oneself(tmp_path_factory) -> Person:
    """The person who runs the tests, with a key."""
    return Person.make(tmp_path_factory.mktemp("oneself"), whoami())


@pytest.fixture(scope="module")
def guarded(project: Project, bob: Person, oneself: Person) -> Iterator[str]:
    """An environment of the same hosts in which another person approves."""
    (project.home / "approvers").write_text(bob.line + oneself.line)
    yield project.environment("guarded", lambda text: text.replace("approval: not_required", "approval: required"))
    (project.home / "approvers").unlink()


def test_a_deploy_waits_for_another_person_and_goes_on(project, guarded, bob, oneself):
    wanted = project.other()
    with Load(project) as load:
        asked = project.run("deploy", wanted, *QUICK, "-e", guarded)
        run_id = asked.out["id"]
        assert (asked.code, asked.out["state"]) == (6, "waiting"), asked.error
        assert f"somebody else than {whoami()}" in asked.error
        assert project.serving() != wanted

        own = project.run("approve", run_id, "--key", oneself.key)
        assert (own.code, own.out["error"]["name"]) == (9, "refused")
        early = project.run("runs", "resume", run_id)
        assert early.code == 6, early.error

        assert project.run("approve", run_id, "--key", bob.key).code == 0
        ended = project.run("runs", "resume", run_id)
    assert (ended.code, load.failed) == (0, []), ended.error
    assert project.serving() == wanted
    approval = next(step for step in ended.out["steps"] if step["name"] == "approval")
    assert approval["results"][0]["message"] == "approved by bob@example.com"


def test_another_person_at_the_same_terminal_approves_at_once(project, guarded, bob):
    wanted = project.other()

    ended = project.run("deploy", wanted, *QUICK, "-e", guarded, "--approve-by", bob.key)

    assert (ended.code, ended.out["state"]) == (0, "done"), ended.error
    assert project.serving() == wanted


@pytest.fixture
def waiting(project: Project, guarded: str) -> str:
    """A run that waits for approval; whatever the test leaves of it is given up."""
    asked = project.run("deploy", project.other(), *QUICK, "-e", guarded)
    assert asked.code == 6, asked.error
    return str(asked.out["id"])


def test_a_rejected_deploy_takes_back_what_it_staged(project, waiting, bob, tmp_path):
    before = project.serving()
    stranger = project.run("reject", waiting, "--key", Person.make(tmp_path, "eve").key)
    assert (stranger.code, stranger.out["error"]["name"]) == (9, "refused")
    assert project.run("reject", waiting, "--key", bob.key).code == 0

    ended = project.run("runs", "resume", waiting)

    assert ended.code == 5, ended.error
    assert "rejected by " in ended.error
    assert [step["state"] for step in ended.out["steps"] if step["kind"] == "undo"] == ["done"]
    assert project.serving() == before
    assert project.run("runs", "resume", waiting).code == 2, "it ended"


def test_a_plan_that_changed_while_it_waited_is_not_resumed(project, waiting):
    kept = project.home / ".mcpops/guarded/runs" / waiting
    role = kept / "snapshot/roles/blue_green/tasks/main.yml"
    role.write_text(role.read_text() + "# something else\n")

    ended = project.run("runs", "resume", waiting)

    assert ended.code == 2, ended.error
    assert "is not what was planned" in ended.error
    assert f"mcpops runs abandon {waiting}" in ended.out["error"]["hint"]
    refused = project.run("runs", "abandon", waiting)
    assert (refused.code, refused.out["error"]["name"]) == (9, "refused")
    assert project.run("runs", "abandon", waiting, "--yes", "--reason", "edited").code == 0
    assert project.shown(waiting)["state"] == "abandoned"


def test_a_release_that_was_exchanged_while_it_waited_is_not_deployed(project, waiting):
    kept = next((project.home / ".mcpops/guarded/runs" / waiting / "files/release").glob("*.yml"))
    kept.write_text(kept.read_text().replace("memory: 256m", "memory: 512m"))

    ended = project.run("runs", "resume", waiting)

    assert ended.code == 2, ended.error
    assert project.run("runs", "abandon", waiting, "--yes").code == 0


FROZEN = 'deploy_freeze_windows: [{from: "2020-01-01T00:00:00Z", until: "2099-01-01T00:00:00Z", why: the sale}]'


def test_a_freeze_window_says_until_when_and_why(project):
    name = project.environment("frozen", lambda text: text.replace("deploy_freeze_windows: []", FROZEN))

    ended = project.run("deploy", project.other(), *QUICK, "-e", name)

    assert (ended.code, ended.out["state"]) == (9, "failed"), ended.error
    assert "frozen until 2099-01-01T00:00:00Z: the sale" in ended.out["reason"]
    assert [step["state"] for step in ended.out["steps"]][:3] == ["failed", "pending", "pending"]


@pytest.mark.parametrize("setting", ["deploy_freeze_windows: []", "deploy_backup_max_age_s: null"])
def test_an_environment_that_does_not_say_what_it_asks_for_is_unknown(project, setting):
    name = project.environment("unsaid", lambda text: text.replace(setting, ""))

    ended = project.run("deploy", project.other(), *QUICK, "-e", name)

    assert ended.code == 3, ended.error
    assert f"the inventory does not say {setting.partition(':')[0]}" in ended.out["reason"]
    assert {step["state"] for step in ended.out["steps"][2:]} == {"pending"}


def test_ctrl_c_leaves_a_run_that_can_be_resumed(project):
    wanted = project.other()
    with Load(project) as load:
        command = project.start("deploy", wanted, *QUICK)
        command.until("▸ stage")
        command.interrupt()
        stopped = command.end()
        assert stopped.code == 130, stopped.error
        assert "runs resume" in stopped.said or "runs list" in stopped.said
        told = project.run("status").out
        assert told["lease"]["run"] == command.run_id
        assert told["lease"]["interrupted"] is True
        busy = project.run("deploy", wanted, *QUICK)
        assert busy.code == 4, busy.error
        assert f"mcpops runs resume {command.run_id}" in busy.out["error"]["hint"]

        ended = project.run("runs", "resume", command.run_id)
    assert (ended.code, load.failed) == (0, []), ended.error
    assert project.serving() == wanted


def test_watching_prints_one_object_a_line_and_ends_with_the_run(project):
    command = project.start("deploy", project.other(), *STAGED)
    command.until("run ")
    argv = ("runs", "watch", command.run_id, "--timeout", "120")
    watched = project.text(*argv, "--json")

    ended = command.end()

    assert ended.code == 0, ended.error
    assert watched.returncode == 0, watched.stderr
    rows = [json.loads(line) for line in watched.stdout.splitlines()]
    assert rows[-1]["id"] == command.run_id
    assert rows[-1]["state"] == "done"
    assert {row["name"] for row in rows[:-1]} == {"freeze", "backup age", "preflight", "stage"}
    again = project.text(*argv)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1].startswith("done")


STATUS = {"environment", "active", "slots", "lease", "backups", "certificates", "schedules", "overdue"}
RUN = {
    "schema", "id", "environment", "runbook", "plan_digest", "state", "requested_by", "started_at", "ended_at",
    "duration_s", "steps", "record",
}  # fmt: skip
STEP = {"seq", "name", "kind", "state", "attempts", "started_at", "duration_s", "hosts", "outputs", "results"}


def test_the_json_has_the_fields_of_the_contract(project):
    status = project.run("status")
    shown = project.last_run()

    assert (status.code, set(status.out) >= STATUS) == (0, True), status.out
    assert set(status.out["active"]) >= {"slot", "release", "since"}
    assert all(set(slot) >= {"release", "sessions", "state"} for slot in status.out["slots"].values())
    [certificate] = status.out["certificates"]
    assert (certificate["name"], certificate["served"], certificate["days_left"]) == ("time.local.test", True, 89)
    assert set(shown) >= RUN
    assert all(set(step) >= STEP for step in shown["steps"])
    assert {"ok", "changed", "failed", "unreachable"} <= set(shown["steps"][-1]["hosts"])
    assert shown["record"]["verified"] is True
    assert shown["record"]["head"].startswith("sha256:")
    assert project.run("runs", "export", shown["id"]).out == shown


def test_a_person_reads_the_same_in_words(project):
    shown = project.last_run()
    status, story = project.text("status"), project.text("runs", "show", shown["id"])

    assert status.returncode == 0
    assert f"local: {project.serving()} on " in status.stdout
    assert shown["id"] in status.stdout
    assert story.returncode == 0
    assert shown["plan_digest"] or shown["runbook"] in story.stdout
    assert all(step["name"] in story.stdout for step in shown["steps"])
    assert "verified" in story.stdout


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("runs", "show", "nothing"), "no run 'nothing'"),
        (("status", "-e", "moon"), "no environment 'moon'"),
        (("run", "nothing"), "no runbook 'nothing'"),
        (("deploy", NEXT, "--until", "nothing"), "no step 'nothing'"),
        (("deploy", NEXT, "--bake", "soon", "--again"), "'soon' is no duration"),
        (("run", "deploy", "-x", "slot"), "'slot' is not KEY=VALUE"),
        (("status", "--no-such-option"), "--no-such-option"),
    ],
)
def test_a_usage_error_is_one_object_with_a_hint(project, argv, said):
    ended = project.run(*argv)

    assert ended.code == 2
    assert set(ended.out) == {"error"}
    assert set(ended.out["error"]) == {"code", "name", "message", "detail", "hint", "where"}
    assert said in ended.out["error"]["message"]
    assert ended.out["error"]["hint"]


def test_no_secret_is_in_any_record(project):
    secrets = [(project.state / "valkey/password").read_text().strip()]
    secrets += [line for line in (project.state / "ca/front.key").read_text().splitlines() if "-----" not in line]
    assert all(len(secret) >= 16 for secret in secrets)
    kept = [path for path in (project.home / ".mcpops").glob("journal.sqlite*") if path.is_file()]
    kept += [path for path in (project.home / ".mcpops").glob("*/runs/**/*") if path.is_file()]
    assert len(kept) > 20
    shown = [project.text("runs", "export", run["id"]).stdout for run in project.run("runs", "list").out["runs"]]

    for secret in secrets:
        assert [str(path) for path in kept if secret.encode() in path.read_bytes()] == []
        assert not any(secret in text for text in shown)


def test_what_is_kept_is_private(project):
    state = project.home / ".mcpops"

    open_to_others = [
        str(path)
        for path in (state, *state.glob("journal.sqlite*"), *state.glob("*/targets.json"), *state.glob("*/runs/*"))
        if path.stat().st_mode & 0o077
    ]

    assert open_to_others == []
