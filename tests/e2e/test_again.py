"""A repeat answers that it is already so."""

from __future__ import annotations

from tests.e2e.stand import QUICK, Load


def test_a_release_that_serves_is_not_deployed_again(project):
    front = project.front()
    runs = project.run("runs", "list").out["runs"]

    ended = project.run("deploy", front["release"])

    assert ended.code == 0, ended.error
    assert ended.out == {"environment": "local", "release": front["release"], "slot": front["active"], "already": True}
    assert project.run("runs", "list").out["runs"] == runs
    assert project.front()["generation"] == front["generation"]


def test_again_deploys_it_all_the_same_into_the_other_slot(project):
    front = project.front()

    with Load(project) as load:
        ended = project.run("deploy", front["release"], "--again", *QUICK)

    assert (ended.code, load.failed) == (0, []), ended.error
    after = project.front()
    assert (after["release"], after["active"] != front["active"]) == (front["release"], True)
