"""`mcpops rollback` as a person on call types it: real proxies, real processes, and everything that may be broken."""

from __future__ import annotations

import json
import os
import pwd
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcpops.remote.targets import load_targets
from tests.integration.front_stand import request
from tests.integration.rollback_stand import SSHD, TwoFronts
from tests.streams import run

PORT = 18620


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[TwoFronts]:
    with TwoFronts(tmp_path, PORT) as fronts:
        yield fronts


def slots(stand: TwoFronts) -> dict[str, str]:
    """What a client of each front gets."""
    return {name: front.serves for name, front in stand.fronts.items()}


def rows(said: dict[str, Any], task: str) -> dict[str, str]:
    return {row["host"]: row["outcome"] for row in said["steps"][0]["results"] if row["task"] == task}


def cut_off(stand: TwoFronts, name: str) -> None:
    """Make a host unreachable: its hostside is gone, its proxy serves on."""
    targets = [replace(t, hostside_path="/nonexistent") if t.name == name else t for t in stand.targets]
    stand.save(targets)


def test_back_to_the_last_verified_release_and_proved(stand: TwoFronts) -> None:
    assert slots(stand) == {"a": "green", "b": "green"}
    code, said, heard = stand.rollback()
    assert code == 0, heard
    assert slots(stand) == {"a": "blue", "b": "blue"}
    assert heard.index("back to r1") < heard.index("a: r2 in green; switch to slot blue")
    assert rows(said, "activate slot blue") == {"a": "changed", "b": "changed"}
    assert rows(said, "read back") == rows(said, "probe") == {"a": "ok", "b": "ok"}
    assert said["cutover"]["hosts"] == 2
    assert 0 < said["cutover"]["switch_ms"] <= said["cutover"]["intent_to_switch_ms"] < 5000
    generations = {front.hostside("status")["generation"] for front in stand.fronts.values()}
    assert generations == {3}


def test_the_record_is_private_and_whole(stand: TwoFronts) -> None:
    _, said, _ = stand.rollback()
    [record] = stand.records()
    path = stand.state / "rollbacks" / f"{record['id']}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {**record, "cutover": said["cutover"]} == said
    assert record["state"] == "done"
    assert record["plan"]["release"] == "r1"
    assert record["steps"][0]["hosts"] == {"ok": 0, "changed": 2, "failed": 0, "unreachable": 0}
    assert record["started_at"] <= record["steps"][0]["started_at"] <= record["ended_at"]


def test_the_record_names_whom_the_kernel_knows(stand: TwoFronts) -> None:
    """Not whom an environment variable names."""
    says = {"LOGNAME": "mallory", "USER": "mallory", "SUDO_USER": ""}
    assert stand.rollback(environment=says)[0] == 0
    [record] = stand.records()
    assert record["requested_by"] == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize(
    "bad",
    [{"stderr": "closed"}, {"stderr": "broken"}, {"stdout": "full"}, {"stdout": "closed", "stderr": "closed"},
     {"stdout": "broken", "stderr": "broken"}],
    ids=str,
)  # fmt: skip
def test_it_acts_and_is_recorded_when_nobody_hears_it(stand: TwoFronts, bad: dict[str, str]) -> None:
    ended = run(stand.command("--json"), **bad)
    assert ended.returncode == 0, ended.stderr
    assert slots(stand) == {"a": "blue", "b": "blue"}
    assert [(record["state"], record["exit_code"]) for record in stand.records()] == [("done", 0)]
    cut_off(stand, "b")
    assert run(stand.command("--to", "r2"), **bad).returncode == 3, "its own exit code"
    assert slots(stand) == {"a": "green", "b": "blue"}


def test_a_second_one_says_that_it_is_so_and_goes_no_further(stand: TwoFronts) -> None:
    for front in stand.fronts.values():
        front.release("r0", "2026-10-01T00:00:00Z")
    assert stand.rollback()[0] == 0
    code, said, heard = stand.rollback()
    assert code == 0
    assert "taken back already" in heard
    assert "--to" in heard
    assert rows(said, "activate slot blue") == {"a": "ok", "b": "ok"}
    states = [front.hostside("status") for front in stand.fronts.values()]
    assert {state["generation"] for state in states} == {3}
    assert {state["fence"]["run"] for state in states} == {said["id"]}, "a deploy that was about to switch is refused"


def test_one_host_out_of_reach_then_back(stand: TwoFronts) -> None:
    cut_off(stand, "b")
    code, said, heard = stand.rollback()
    assert code == 3
    assert "b: NOT REACHED" in heard
    assert slots(stand) == {"a": "blue", "b": "green"}
    assert rows(said, "take part") == {"b": "unreachable"}
    assert said["state"] == "failed"
    stand.save(stand.targets)
    code, said, heard = stand.rollback("--sync")
    assert code == 0, heard
    assert slots(stand) == {"a": "blue", "b": "blue"}
    assert rows(said, "activate slot blue") == {"b": "changed"}
    assert stand.rollback()[0] == 0, "the next rollback goes no further back"
    assert slots(stand) == {"a": "blue", "b": "blue"}


def test_the_next_rollback_repairs_what_was_away(stand: TwoFronts) -> None:
    cut_off(stand, "b")
    assert stand.rollback()[0] == 3
    stand.save(stand.targets)
    code, _, heard = stand.rollback()
    assert code == 0, heard
    assert "the fronts disagree" in heard
    assert slots(stand) == {"a": "blue", "b": "blue"}


def test_a_host_that_hangs_holds_up_nobody(stand: TwoFronts, tmp_path: Path) -> None:
    hanging = tmp_path / "hangs.py"
    hanging.write_text("import time; time.sleep(60)\n")
    stand.save([stand.targets[0], replace(stand.targets[1], hostside_path=str(hanging))])
    began = time.monotonic()
    code, said, _ = stand.rollback()
    assert (code, rows(said, "take part")) == (3, {"b": "unreachable"})
    assert stand.fronts["a"].serves == "blue"
    assert time.monotonic() - began < 5


def test_no_host_in_reach(stand: TwoFronts) -> None:
    for_all = [replace(target, hostside_path="/nonexistent") for target in stand.targets]
    stand.save(for_all)
    code, said, _ = stand.rollback()
    assert code == 3
    assert said["error"]["message"] == "no front answered"
    assert slots(stand) == {"a": "green", "b": "green"}


def test_a_proxy_that_is_down_takes_it_over_when_it_starts(stand: TwoFronts) -> None:
    stand.fronts["b"].stop_proxy()
    code, said, _ = stand.rollback()
    assert code == 3
    assert stand.fronts["a"].serves == "blue"
    assert rows(said, "activate slot blue") == {"a": "changed", "b": "unknown"}
    stand.fronts["b"].start_proxy()
    assert slots(stand) == {"a": "blue", "b": "blue"}
    assert stand.rollback("--sync")[0] == 0


def test_in_the_middle_of_a_deploy_whose_controller_is_gone(stand: TwoFronts) -> None:
    stand.rollback()
    for front in stand.fronts.values():
        front.stage("green", "r3")
        front.release("r3", None)
    half = stand.fronts["a"]
    half.activate("green", "--guard-s", "30", "--reason", "cutover: r3", run="deploy", fence=_fence(half))
    assert slots(stand) == {"a": "green", "b": "blue"}
    code, _, heard = stand.rollback()
    assert code == 0, heard
    assert "back to r1" in heard
    assert slots(stand) == {"a": "blue", "b": "blue"}
    statuses = [front.hostside("status") for front in stand.fronts.values()]
    assert {(status["phase"], status["release"]) for status in statuses} == {("steady", "r1")}


def test_the_deploy_that_it_interrupts_is_fenced(stand: TwoFronts) -> None:
    front = stand.fronts["a"]
    mine = _fence(front)
    front.activate("green", "--guard-s", "30", run="deploy", fence=mine)
    assert stand.rollback()[0] == 0
    front.activate("green", run="deploy", fence=mine, expect=8)
    assert slots(stand) == {"a": "blue", "b": "blue"}


def test_a_host_that_saw_a_fence_from_the_future(stand: TwoFronts) -> None:
    front = stand.fronts["b"]
    front.activate("green", run="other", fence=10**14)
    assert stand.rollback()[0] == 0
    assert slots(stand) == {"a": "blue", "b": "blue"}


def test_no_journal_no_ansible_no_database(stand: TwoFronts) -> None:
    """The command works without the journal, and imports neither Ansible nor SQLAlchemy."""
    assert not (stand.project / ".mcpops" / "journal.sqlite").exists()
    heavy = "ansible", "ansible_runner", "sqlalchemy", "paramiko", "boto3", "jsonschema"
    code, _, heard = stand.rollback(forbid=heavy)
    assert code == 0, heard


def test_a_stale_targets_file_is_not_believed(stand: TwoFronts) -> None:
    """The inventory changed: it is read anew, by Ansible's own reading of it."""
    inventory = stand.project / "inventories" / "prod" / "hosts.yml"
    variables = {
        target.name: {
            "ansible_connection": "local",
            "ansible_python_interpreter": target.python,
            "hostside_path": target.hostside_path,
            "service_state_dir": target.state_dir,
        }
        for target in stand.targets
    }
    stand.save([replace(target, hostside_path="/old/path") for target in stand.targets])
    inventory.write_text(json.dumps({"all": {"children": {"fronts": {"hosts": variables}}}}))
    code, _, heard = stand.rollback()
    assert code == 0, heard
    assert slots(stand) == {"a": "blue", "b": "blue"}


def test_the_last_targets_serve_when_the_inventory_is_broken(stand: TwoFronts) -> None:
    (stand.project / "inventories" / "prod" / "hosts.yml").write_text("all: [broken\n")
    code, _, heard = stand.rollback()
    assert code == 0, heard
    assert "using the fronts of the last run" in heard


def test_no_verified_release_changes_nothing(stand: TwoFronts) -> None:
    for front in stand.fronts.values():
        front.release("r1", None)
    code, said, _ = stand.rollback()
    assert code == 9
    assert said["error"]["hint"]
    assert slots(stand) == {"a": "green", "b": "green"}
    assert stand.records() == []


def test_two_builds_under_one_name_change_nothing(stand: TwoFronts) -> None:
    stand.fronts["b"].release("r1", "2026-11-01T00:00:00Z", "sha256:other")
    code, said, _ = stand.rollback()
    assert code == 9
    assert said["error"]["detail"] == "a: sha256:r1\nb: sha256:other"
    assert slots(stand) == {"a": "green", "b": "green"}
    assert stand.records() == []


def test_to_an_unknown_release_lists_the_known(stand: TwoFronts) -> None:
    code, said, _ = stand.rollback("--to", "r9")
    assert code == 2
    assert said["error"]["detail"] == "known: r1, r2"
    assert slots(stand) == {"a": "green", "b": "green"}


def test_to_and_sync_exclude_each_other(stand: TwoFronts) -> None:
    assert stand.rollback("--to", "r1", "--sync")[0] == 2


def test_the_old_slot_is_down(stand: TwoFronts) -> None:
    """Nothing can start it here, so that front stays on what it serves; the other one is not held up."""
    stand.fronts["b"].backends["blue"].kill()
    code, said, _ = stand.rollback()
    assert code == 1
    assert stand.fronts["a"].serves == "blue"
    assert stand.fronts["b"].serves == "green"
    assert rows(said, "slot start blue") == {"b": "failed"}


def test_a_slot_that_was_closed_is_opened_first(stand: TwoFronts) -> None:
    for front in stand.fronts.values():
        front.hostside("front", "close", "blue")
    assert stand.rollback()[0] == 0
    status, slot, headers = stand.fronts["a"].ask(mcp_session_id="blue.x")
    assert (status, slot) == (200, "blue"), headers


def test_a_probe_that_fails_is_not_a_proof(stand: TwoFronts) -> None:
    """The front says that it switched, but a client cannot check its certificate: nothing is proved there."""
    (stand.fronts["b"].state / "ca.pem").write_bytes((stand.fronts["a"].state / "ca.pem").read_bytes())
    code, said, _ = stand.rollback()
    assert code == 3
    assert rows(said, "probe") == {"a": "ok", "b": "unknown"}
    assert rows(said, "read back") == {"a": "ok", "b": "ok"}


def test_a_record_that_cannot_be_written_stops_nothing(stand: TwoFronts) -> None:
    (stand.state / "rollbacks").write_text("in the way")
    code, said, heard = stand.rollback()
    assert code == 0, heard
    assert "no record of this rollback" in heard
    assert said["cutover"]["hosts"] == 2
    assert slots(stand) == {"a": "blue", "b": "blue"}


def test_no_request_is_lost(stand: TwoFronts) -> None:
    failed: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.01):
            for name, front in stand.fronts.items():
                status, slot, _ = front.ask()
                if status != 200:
                    failed.append(f"{name} {slot} {status}")

    load = threading.Thread(target=ask)
    load.start()
    try:
        assert stand.rollback()[0] == 0
        time.sleep(0.2)
    finally:
        stop.set()
        load.join(20)
    assert failed == []
    assert request(stand.fronts["a"].backends["green"].port, "GET", "/_stats")[0] == 200


def test_over_ssh(tmp_path: Path) -> None:
    if not Path(SSHD).exists():
        pytest.skip("not on this machine: sshd (apt-get install openssh-server)")
    with TwoFronts(tmp_path, PORT, "ssh") as stand:
        code, _, heard = stand.rollback()
        assert code == 0, heard
        assert slots(stand) == {"a": "blue", "b": "blue"}


def test_targets_file(stand: TwoFronts) -> None:
    path = stand.state / "targets.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_targets(path, "sha256:other") is None
    assert load_targets(path, None) == stand.targets
    for broken in ("", "[]", '{"schema": 99}', '{"schema": 1, "inventory_digest": "x", "targets": [{}]}'):
        path.write_text(broken)
        assert load_targets(path, None) is None


def _fence(front: Any) -> int:
    return int(front.hostside("status")["fence"]["fence"]) + 1
