"""The role blue_green by real Ansible on two real fronts, of which one was away, or is new."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcpops.ansible.play import PlayCall, run_play
from mcpops.deploy.direct import ACTIONS, DirectContext
from mcpops.model.outcome import AttemptReport
from tests.integration.front_stand import REPOSITORY
from tests.integration.rollback_stand import TwoFronts

PORT = 18660


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[TwoFronts]:
    with TwoFronts(tmp_path, PORT) as fronts:
        yield fronts


def role(stand: TwoFronts, tasks: str, **variables: Any) -> AttemptReport:
    """Run one tasks file of the role with a right above all that the fronts have seen."""
    hosts = {
        target.name: {
            "ansible_connection": "local",
            "ansible_python_interpreter": target.python,
            "hostside_path": target.hostside_path,
            "service_state_dir": target.state_dir,
            "front_url": f"https://127.0.0.1:{stand.fronts[target.name].port}",
            "server_name": "time.local.test",
            "cafile": str(stand.fronts[target.name].state / "ca.pem"),
        }
        for target in stand.targets
    }
    inventory = stand.directory / "hosts.json"
    inventory.write_text(json.dumps({"all": {"children": {"fronts": {"hosts": hosts}}}}))
    fence = max(status(stand, name)["fence"]["fence"] for name in hosts) + 1
    imported = {"name": "as a deploy does", "import_role": {"name": "blue_green", "tasks_from": tasks}}
    play = [{"name": tasks, "hosts": "fronts", "gather_facts": False, "any_errors_fatal": True, "tasks": [imported]}]
    given = {
        "mcpops_run": "deploy",
        "mcpops_fence": fence,
        "blue_green_minimum_free_bytes": 1,
        "blue_green_minimum_certificate_days": 0,
        **variables,
    }
    call = PlayCall(
        name=tasks, play=json.dumps(play), tree=REPOSITORY, inventory=inventory, run_id="deploy", attempt=1,
        fence=fence, variables=given, timeout_s=120.0,
    )  # fmt: skip
    return run_play(call, lambda _: None, threading.Event())


def status(stand: TwoFronts, name: str) -> dict[str, Any]:
    return stand.fronts[name].hostside("status")


def serving(stand: TwoFronts) -> dict[str, tuple[str, int]]:
    """What a client of each front gets, and as which generation."""
    return {name: (front.serves, status(stand, name)["generation"]) for name, front in stand.fronts.items()}


def test_a_rollback_after_a_preflight_does_not_go_forward(stand: TwoFronts) -> None:
    """One front was away when r2 was taken back; a deploy brings it along, and ends there. On call looks again."""
    stand.save([target for target in stand.targets if target.name == "b"])
    assert stand.rollback()[0] == 0
    stand.save(stand.targets)
    assert serving(stand) == {"a": ("green", 2), "b": ("blue", 3)}
    stand.fronts["a"].hostside("front", "close", "blue", fence=2)

    done = role(stand, "preflight")
    assert done.outcome.good, done.reason
    assert serving(stand) == {"a": ("blue", 3), "b": ("blue", 3)}
    assert stand.fronts["a"].ask(mcp_session_id="blue.x")[0] == 200, "the deploy of r2 had closed it"
    reasons = {name: status(stand, name)["activations"][0]["reason"] for name in "ab"}
    assert reasons == {"a": "rollback: r2 -> r1", "b": "rollback: r2 -> r1"}

    code, said, heard = stand.rollback()
    assert (code, said["plan"]["already"]) == (0, True), heard
    assert "taken back already" in heard
    assert serving(stand) == {"a": ("blue", 3), "b": ("blue", 3)}


def test_a_front_that_is_new_is_left_alone_until_the_cutover_and_after_its_undo(stand: TwoFronts) -> None:
    stand.fronts["b"].wipe()
    done = role(stand, "preflight")
    assert done.outcome.good, done.reason
    assert (done.outputs["slot"], done.outputs["active_slot"], done.outputs["active_release"]) == (
        "blue",
        "green",
        "r2",
    )
    assert serving(stand) == {"a": ("green", 2), "b": ("", 0)}

    stage(stand, "r3")
    assert direct(stand, "cutover").outcome.good
    assert serving(stand) == {"a": ("blue", 3), "b": ("blue", 3)}
    assert direct(stand, "cutover", "undo").outcome.good
    assert serving(stand) == {"a": ("green", 4), "b": ("", 4)}
    assert stand.fronts["b"].ask()[0] == 503, "as before"

    again = role(stand, "preflight")
    assert (again.outcome.good, again.outputs["slot"]) == (True, "blue"), again.reason
    code, said, heard = stand.rollback("--sync")
    assert (code, said["plan"]["already"]) == (1, True), heard
    assert said["plan"]["left_out"] == {"b": "r2 was never staged there; the next deploy brings it in"}
    assert serving(stand) == {"a": ("green", 4), "b": ("", 4)}


def test_the_role_brings_a_front_in_and_takes_it_out_again(stand: TwoFronts) -> None:
    stand.fronts["b"].wipe()
    stage(stand, "r3")
    given = {"slot": "blue", "active_slot": "green", "release": {"name": "r3"}}
    done = role(stand, "main", **given)
    assert done.outcome.good, done.reason
    assert serving(stand) == {"a": ("blue", 3), "b": ("blue", 3)}
    undone = role(stand, "undo", **given)
    assert undone.outcome.good, undone.reason
    assert serving(stand) == {"a": ("green", 4), "b": ("", 4)}


def test_a_front_that_lags_and_holds_another_release_there_is_left_alone(stand: TwoFronts) -> None:
    stand.fronts["b"].stage("green", "r9")
    stand.fronts["a"].activate("green", "--reason", "cutover: r2")
    done = role(stand, "preflight")
    assert (done.outcome.good, done.outputs["slot"]) == (True, "blue"), done.reason
    assert serving(stand) == {"a": ("green", 3), "b": ("green", 2)}


def test_a_front_that_serves_from_the_slot_that_is_needed_stops_the_deploy_until_a_sync(stand: TwoFronts) -> None:
    """It was away during two rollbacks: what the others serve came into its other slot."""
    stand.fronts["b"].stage("blue", "r2")
    for name, slot in (("a", "green"), ("b", "blue")):
        stand.fronts[name].activate(slot, "--reason", "rollback: r1 -> r2")
    before = serving(stand)
    done = role(stand, "preflight")
    assert not done.outcome.good
    assert "a: serves r2 from green, another front serves r2 from blue" in done.reason
    assert "mcpops rollback --sync" in done.reason
    assert "front activate --slot none --generation 4 --expect 3" in done.reason
    assert serving(stand) == before

    code, _, heard = stand.rollback("--sync")
    assert code == 0, heard
    assert serving(stand) == {"a": ("green", 4), "b": ("green", 4)}
    done = role(stand, "preflight")
    assert (done.outcome.good, done.outputs["slot"]) == (True, "blue"), done.reason


def stage(stand: TwoFronts, release: str) -> None:
    """What a deploy stages in blue, on both fronts."""
    for front in stand.fronts.values():
        front.stage("blue", release)
        front.release(release, None)
        if not front.backends["blue"].process:
            front.backends["blue"].start()


def direct(stand: TwoFronts, name: str, verb: str = "act") -> AttemptReport:
    fence = max(status(stand, host)["fence"]["fence"] for host in stand.fronts) + 1
    context = DirectContext(targets=tuple(stand.targets), slot="blue", run="direct", fence=fence, guard_s=20.0)
    action = ACTIONS[name](context)
    try:
        action.prepare()
        return action.act() if verb == "act" else action.undo()
    finally:
        action.close()
