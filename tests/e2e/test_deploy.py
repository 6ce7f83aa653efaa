"""`mcpops deploy` as people type it: what goes right, and everything that can be wrong with a release."""

from __future__ import annotations

import socket

import pytest

from tests.e2e.stand import FIRST, NEXT, QUICK, Load


def test_a_deploy_and_its_record(project):
    before = project.serving()
    wanted = NEXT if before == FIRST else FIRST

    with Load(project) as load:
        ended = project.run("deploy", "--blue-green", wanted, *QUICK)

    assert (ended.code, load.failed) == (0, []), ended.error
    assert project.serving() == wanted
    assert ended.out["state"] == "done"
    assert ended.out["cutover"]["hosts"] == 1
    names = [step["name"] for step in ended.out["steps"]]
    assert names[2:9] == ["preflight", "stage", "prove", "approval", "cutover", "bake", "record"]
    assert all(step["results"] for step in ended.out["steps"]), "each step shows what it did on which host"
    assert ended.out["record"]["verified"] is True


BAD_RELEASES = {
    "wrong digest": ({"replace": {"sha256: 5189ae": "sha256: 0000ae"}}, 2, "sha256"),
    "does not start": ({"replace": {"--pass-environment": "--no-such-option"}}, 5, "no-such-option"),
}


@pytest.mark.parametrize("case", ["wrong digest", "does not start"])
def test_a_bad_release_leaves_the_old_one_serving(project, case):
    changes, code, said = BAD_RELEASES[case]
    before = project.serving()
    name = project.release(f"bad-{case.replace(' ', '-')}", **changes)

    with Load(project) as load:
        ended = project.run("deploy", name, *QUICK)

    assert ended.code == code, ended.error
    assert said in ended.error
    assert load.failed == []
    assert project.serving() == before
    assert project.front()["phase"] == "steady"


def test_a_port_in_use_is_named(project):
    front = project.front()
    before, idle = front["release"], "green" if front["active"] == "blue" else "blue"
    port = project.base_port + (3 if idle == "blue" else 4)

    with socket.create_server(("127.0.0.1", port)), Load(project) as load:
        ended = project.run("deploy", NEXT if before == FIRST else FIRST, *QUICK)

    assert ended.code == 5, ended.error
    assert str(port) in ended.error
    assert load.failed == []
    assert project.serving() == before


def test_a_release_that_nobody_knows_lists_the_known_ones(project):
    ended = project.run("deploy", "time-1999")

    assert ended.code == 2
    assert NEXT in ended.out["error"]["hint"]
    assert ended.out["error"]["name"] == "usage"


def test_a_release_that_breaks_under_traffic_is_taken_back(project):
    before = project.serving()

    with Load(project) as load:
        ended = project.run("deploy", "time-broken", "--bake", "10s", "--drain", "0s")

    assert ended.code == 5, ended.error
    assert ended.out["state"] == "rolled_back"
    assert 1 <= len(load.failed) <= 5, load.failed
    assert project.serving() == before
    kinds = [(step["name"], step["state"]) for step in ended.out["steps"] if step["kind"] == "undo"]
    assert kinds == [("undo cutover", "done"), ("undo stage", "done")]


def test_a_front_that_is_down_stops_the_deploy_before_anything_changes(project):
    before = project.serving()
    service = project.state / "service"
    (service / "admin.sock").rename(service / "admin.away")
    try:
        with Load(project) as load:
            ended = project.run("deploy", NEXT if before == FIRST else FIRST, *QUICK)
    finally:
        (service / "admin.away").rename(service / "admin.sock")

    assert ended.code == 1, ended.error
    assert "admin socket" in ended.error
    assert load.failed == []
    assert project.serving() == before


def test_too_little_disk_is_refused_before_anything_changes(project):
    before = project.serving()

    ended = project.run("run", "deploy", "-x", "blue_green_minimum_free_bytes=99999999999999")

    assert ended.code == 1, ended.error
    assert "bytes free" in ended.error
    assert project.serving() == before


def test_a_certificate_that_ends_soon_is_refused_before_anything_changes(project):
    before = project.serving()

    ended = project.run("run", "deploy", "-x", "blue_green_minimum_certificate_days=4000")

    assert ended.code == 1, ended.error
    assert "days left" in ended.error
    assert project.serving() == before


def test_the_plan_is_printed_and_nothing_is_started(project):
    runs = project.run("runs", "list").out["runs"]

    planned = project.run("deploy", NEXT, "--plan")

    assert planned.code == 0
    assert planned.out["plan_digest"].startswith("sha256:")
    assert [step["name"] for step in planned.out["steps"]][-1] == "retire"
    assert project.run("runs", "list").out["runs"] == runs


def test_the_same_plan_has_the_same_digest_and_another_release_another(project):
    digests = [project.run("deploy", name, "--plan").out["plan_digest"] for name in (NEXT, NEXT, FIRST)]

    assert digests[0] == digests[1] != digests[2]
