"""Slots on a real supervisord, through the real program: what a deploy does to a host, and what it must survive."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpops.deploy import embedded
from mcpops.hostside.drivers import key_of
from tests.integration.front_stand import wait_for
from tests.integration.slot_stand import SlotStand

PORT = 18210


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[SlotStand]:
    with SlotStand(tmp_path / "h", PORT) as stand:
        yield stand


def error_of(answer: tuple[int, dict]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["name"]


def test_a_stage_brings_exactly_the_release_up_and_a_repeat_changes_nothing(stand):
    release = stand.release("tiny-1")
    code, output = stand.stage("blue", release)
    assert (code, output["changed"], output["release"]) == (0, True, "tiny-1")
    shown = stand.show("blue")
    assert (shown["exact"], shown["healthy"], shown["digest"]) == (True, True, release.manifest()["digest"])
    assert stand.stage("blue", release)[1]["changed"] is False
    assert stand.hostside("slot", "show", "blue", "--digest", "sha256:other")[1]["exact"] is False


def test_check_mode_says_what_would_change_and_changes_nothing(stand):
    bundle = stand.release("tiny-1").bundle()
    code, output = stand.hostside("slot", "stage", "blue", "--manifest", "-", stdin=bundle, check=True)
    assert (code, output["changed"]) == (0, True)
    assert stand.show("blue")["release"] is None
    assert not (stand.state / "fence").exists()


def test_the_environment_of_a_release_is_its_own(stand, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "hush")
    environment = {"GREETING": "100% it's {port}"}
    stand.stage("blue", stand.release("tiny-1", environment=environment))
    with socket.create_connection(("127.0.0.1", PORT)) as connection:
        connection.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        text = b"".join(iter(lambda: connection.recv(65536), b""))
    seen = json.loads(text.partition(b"\r\n\r\n")[2])["environment"]
    assert seen["GREETING"] == environment["GREETING"]
    assert "SECRET_OF_THE_CALLER" not in seen
    assert seen["PATH"].split(":")[0].endswith("/venv/bin")


def test_revert_gives_the_slot_back_what_it_had(stand):
    old, new = stand.release("tiny-1"), stand.release("tiny-2", version="2.0")
    stand.stage("blue", old)
    stand.hostside("release", "verified", "tiny-1", "--slot", "blue")
    stand.next_run()
    stand.stage("blue", new)
    assert stand.show("blue")["release"] == "tiny-2"
    code, output = stand.hostside("slot", "revert", "blue")
    assert (code, output["changed"], output["release"], output["running"]) == (0, True, "tiny-1", True)
    shown = stand.show("blue")
    assert shown["exact"]
    assert shown["verified_at"]
    assert stand.hostside("slot", "revert", "blue")[1]["changed"] is False


def test_revert_takes_nothing_back_that_another_run_staged(stand):
    stand.stage("blue", stand.release("tiny-1"))
    stand.next_run()
    assert stand.stage("blue", stand.release("tiny-1"))[1]["changed"] is False
    assert stand.hostside("slot", "revert", "blue")[1]["changed"] is False
    assert stand.show("blue")["exact"]


def test_revert_leaves_a_slot_empty_whose_stopped_release_cannot_be_had_any_more(stand):
    release = stand.release("tiny-1")
    stand.stage("blue", release)
    stand.hostside("slot", "stop", "blue")
    stand.next_run()
    wheel = stand.wheelhouse / "tinymcp-1.0-py3-none-any.whl"
    kept = wheel.rename(wheel.with_suffix(".aside"))
    assert error_of(stand.stage("blue", release)) == (1, "not_installed")

    code, output = stand.hostside("slot", "revert", "blue")

    assert (code, output["changed"], output["release"]) == (0, True, None)
    assert stand.show("blue")["release"] is None
    kept.rename(wheel)
    assert stand.hostside("slot", "stage", "blue", "--release", "tiny-1")[0] == 0, "a rollback stages it again"
    assert stand.show("blue")["exact"]


def test_a_stopped_slot_stays_stopped_until_it_is_started(stand):
    stand.stage("blue", stand.release("tiny-1"))
    assert stand.hostside("slot", "stop", "blue")[1]["changed"] is True
    assert stand.hostside("slot", "stop", "blue")[1]["changed"] is False
    shown = stand.show("blue")
    assert (shown["release"], shown["running"], shown["exact"]) == ("tiny-1", False, False)
    assert stand.hostside("slot", "start", "blue")[1]["changed"] is True
    assert stand.hostside("slot", "start", "blue")[1]["changed"] is False
    assert stand.show("blue")["exact"]


def test_remove_leaves_nothing(stand):
    stand.stage("blue", stand.release("tiny-1"))
    assert stand.hostside("slot", "remove", "blue")[1]["changed"] is True
    assert stand.hostside("slot", "remove", "blue")[1]["changed"] is False
    assert not (stand.state / "slots/blue").exists()
    assert list((stand.home / "programs").iterdir()) == []
    assert "tinymcp" not in " ".join(process.command for process in embedded.processes(stand.home))


def test_the_active_slot_is_never_touched(stand):
    release = stand.release("tiny-1")
    stand.stage("blue", release)
    stand.activate("blue")
    stand.next_run()
    for argv in (["stop", "blue"], ["remove", "blue"], ["revert", "blue"]):
        assert error_of(stand.hostside("slot", *argv)) == (9, "active")
    assert error_of(stand.stage("blue", stand.release("tiny-2", version="2.0"))) == (9, "active")
    assert stand.show("blue")["exact"]


def test_a_stale_run_is_refused(stand):
    stand.next_run()
    stand.stage("blue", stand.release("tiny-1"))
    stand.fence = 1
    assert error_of(stand.hostside("slot", "stop", "blue")) == (8, "fenced")
    assert stand.show("blue")["exact"]


def test_a_run_that_is_fenced_while_it_installs_leaves_nothing(stand, tmp_path):
    slow = tmp_path / "uv"
    fence = stand.state / "fence"
    slow.write_text(f'#!/bin/sh\necho \'{{"fence": 9, "run": "newer"}}\' > {fence}\nexec {stand.uv} "$@"\n')
    slow.chmod(0o755)
    stand.write_facts(uv=str(slow))
    assert error_of(stand.stage("blue", stand.release("tiny-1"))) == (8, "fenced")
    assert stand.show("blue")["release"] is None
    assert stand.show("blue")["running"] is False
    assert list((stand.state / "slots/blue").iterdir()) == []


def test_what_a_slot_holds_can_be_started_while_another_run_installs_into_it(stand, tmp_path):
    """A rollback in the middle of a deploy: it does not wait for a download, and gets what it asked for."""
    stand.stage("blue", stand.release("tiny-1"))
    stand.hostside("slot", "stop", "blue")
    stand.next_run()
    begun, go_on, slow = tmp_path / "begun", tmp_path / "go-on", tmp_path / "uv"
    slow.write_text(f'#!/bin/sh\ntouch {begun}\nwhile [ ! -e {go_on} ]; do sleep 0.05; done\nexec {stand.uv} "$@"\n')
    slow.chmod(0o755)
    stand.write_facts(uv=str(slow))
    new = stand.release("tiny-2", version="2.0")
    answers: list[tuple[int, dict]] = []
    deploy = threading.Thread(target=lambda: answers.append(stand.stage("blue", new)))
    deploy.start()
    wait_for("the install begins", begun.exists)
    stand.next_run()

    started = stand.hostside("slot", "start", "blue")

    assert (started[0], started[1]["release"]) == (0, "tiny-1")
    go_on.touch()
    deploy.join(30)
    assert error_of(answers[0]) == (8, "fenced")
    shown = stand.show("blue")
    assert (shown["release"], shown["exact"]) == ("tiny-1", True)
    kept = json.loads((stand.state / "slots/blue.json").read_text())["release"]
    assert [path.name for path in (stand.state / "slots/blue").iterdir()] == [key_of(kept)]


def test_no_client_gets_into_a_slot_whose_content_changes(stand):
    def sessions() -> str:
        return dict(line.split() for line in (stand.state / "slots.map").read_text().splitlines())["blue"]

    def open_it() -> None:
        (stand.state / "slots.map").write_text("blue open\ngreen open\n")
        (stand.state / "preview.map").write_text("token blue\n")

    for act in (
        lambda: stand.stage("blue", stand.release("tiny-1")),
        lambda: stand.hostside("slot", "stop", "blue"),
        lambda: stand.stage("blue", stand.release("tiny-2", version="2.0")),
        lambda: stand.hostside("slot", "revert", "blue"),
        lambda: stand.hostside("slot", "remove", "blue"),
    ):
        open_it()
        assert act()[1]["changed"] is True
        assert sessions() == "closed"
        assert (stand.state / "preview.map").read_text() == ""


class TestFailures:
    """Each failure is told; before the start the slot stays as it was, after it `revert` brings it back."""

    @pytest.fixture(autouse=True)
    def _staged_before(self, stand: SlotStand) -> Iterator[None]:
        stand.stage("blue", stand.release("tiny-1"))
        stand.stage("green", stand.release("tiny-0"))
        stand.activate("green")
        stand.next_run()
        yield
        stand.write_facts()
        assert stand.show("green")["exact"], "the active slot was harmed"
        assert stand.hostside("slot", "revert", "blue")[0] == 0
        assert (stand.show("blue")["release"], stand.show("blue")["exact"]) == ("tiny-1", True)

    def fails(self, stand: SlotStand, answer: tuple[int, dict], name: str, *, says: str = "", harmless: bool) -> None:
        assert error_of(answer) == (1, name)
        error = answer[1]["error"]
        assert says in error["message"] + error["detail"] + error["hint"]
        shown = stand.show("blue")
        assert (shown["release"], shown["exact"]) == (("tiny-1", True) if harmless else (None, False))

    def test_wrong_digest(self, stand):
        release = stand.release("tiny-2", version="2.0")
        contents = {name: text + "\n" for name, text in release.contents.items()}
        self.fails(
            stand,
            stand.stage("blue", release, contents=contents),
            "wrong_digest",
            says="expected sha256",
            harmless=True,
        )

    def test_a_wheel_with_another_hash(self, stand):
        release = stand.release("tiny-2", version="2.0")
        path = stand.wheelhouse / "tinymcp-2.0-py3-none-any.whl"
        path.write_bytes(path.read_bytes() + b"\0")
        self.fails(stand, stand.stage("blue", release), "not_installed", says="ash", harmless=True)

    def test_missing_wheel(self, stand):
        release = stand.release("tiny-2", version="2.0")
        (stand.wheelhouse / "tinymcp-2.0-py3-none-any.whl").unlink()
        self.fails(stand, stand.stage("blue", release), "not_installed", says="mcpops.deploy.wheelhouse", harmless=True)

    def test_it_does_not_start(self, stand):
        release = stand.release("tiny-2", "--fail", "no licence key", version="2.0")
        self.fails(stand, stand.stage("blue", release), "not_started", says="no licence key", harmless=False)

    def test_there_is_no_such_program(self, stand):
        release = stand.release("tiny-2", version="2.0", command=["no-such-program"])
        self.fails(stand, stand.stage("blue", release), "not_started", says="no-such-program", harmless=False)

    def test_health_is_never_good(self, stand):
        release = stand.release("tiny-2", "--health", "503", version="2.0", start_timeout_s=1)
        self.fails(stand, stand.stage("blue", release), "not_healthy", says="HTTP 503", harmless=False)

    def test_the_port_is_in_use(self, stand):
        stand.hostside("slot", "stop", "blue")
        with socket.create_server(("127.0.0.1", PORT)):
            answer = stand.stage("blue", stand.release("tiny-2", version="2.0"))
        self.fails(stand, answer, "port_in_use", says=f"pid {os.getpid()}", harmless=False)
        assert stand.hostside("slot", "revert", "blue")[1]["running"] is False, "it was stopped, so it comes back so"
        stand.hostside("slot", "start", "blue")

    def test_uv_finds_the_disk_full(self, stand, tmp_path):
        full = tmp_path / "uv"
        full.write_text("#!/bin/sh\necho 'error: failed to copy: No space left on device (os error 28)' >&2\nexit 2\n")
        full.chmod(0o755)
        stand.write_facts(uv=str(full))
        self.fails(
            stand,
            stand.stage("blue", stand.release("tiny-2", version="2.0")),
            "disk_full",
            says="free space",
            harmless=True,
        )

    def test_supervisord_is_down(self, stand):
        stand.write_facts(socket="/nonexistent/s.sock")
        answer = stand.stage("blue", stand.release("tiny-2", version="2.0"))
        assert error_of(answer) == (3, "supervisor_down")

    def test_no_manifest(self, stand):
        answer = stand.hostside("slot", "stage", "blue", "--manifest", "-", stdin={"manifest": {}})
        assert error_of(answer) == (2, "bad_manifest")

    @pytest.mark.parametrize("name", ["../evil", ".hidden", "a/b", ""])
    def test_a_manifest_cannot_leave_its_directory(self, stand, name):
        bundle = stand.release("tiny-2", version="2.0").bundle()
        bundle["contents"][name] = "x"
        answer = stand.hostside("slot", "stage", "blue", "--manifest", "-", stdin=bundle)
        assert error_of(answer) == (2, "bad_manifest")


@pytest.mark.parametrize("size", ["8k", "48k"])
def test_a_disk_that_is_really_full(tmp_path, size):
    """A small file system in a namespace of its own: our own writes (8k) and uv (48k) meet a true ENOSPC."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("not on this machine: user namespaces")
    with SlotStand(tmp_path / "h", PORT) as stand:
        bundle = stand.release("tiny-1").bundle()
        argv = f"{shutil.which('python3')} -I {stand.program} --state {stand.state} --run r --fence 1 slot stage blue"
        inside = f"mount -t tmpfs -o size={size},mode=700 none {stand.state}/slots && exec {argv} --manifest -"
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", inside],
            input=json.dumps(bundle),
            capture_output=True,
            text=True,
            check=False,
        )
        answer = json.loads(done.stdout)
        assert (done.returncode, answer["error"]["name"]) == (1, "disk_full"), answer
        assert "free space" in answer["error"]["hint"]
        assert list((stand.home / "programs").iterdir()) == []


@pytest.mark.parametrize("point", ["slot_displaced", "slot_installed", "slot_healthy"])
def test_a_kill_in_the_middle_is_repaired_by_a_repeat_and_by_a_revert(stand, monkeypatch, point):
    stand.stage("blue", stand.release("tiny-1"))
    stand.next_run()
    new = stand.release("tiny-2", version="2.0")

    def killed() -> None:
        with monkeypatch.context() as patch:
            patch.setenv("MCPOPS_FAILPOINT", point)
            with pytest.raises(AssertionError):  # it answers nothing
                stand.stage("blue", new)

    killed()
    left = "tiny-1" if point == "slot_installed" else None
    assert stand.show("blue")["release"] == left, "half a release must not be taken for one"
    assert stand.hostside("slot", "revert", "blue")[0] == 0
    assert (stand.show("blue")["release"], stand.show("blue")["exact"]) == ("tiny-1", True)
    killed()
    assert stand.stage("blue", new)[0] == 0
    assert stand.show("blue")["exact"]
    assert stand.hostside("slot", "revert", "blue")[0] == 0
    assert (stand.show("blue")["release"], stand.show("blue")["exact"]) == ("tiny-1", True)


class TestReleases:
    """What the host knows of releases."""

    def test_verified_is_kept_and_must_be_true(self, stand):
        stand.stage("blue", stand.release("tiny-1"))
        assert error_of(stand.hostside("release", "verified", "tiny-9")) == (2, "unknown_release")
        assert error_of(stand.hostside("release", "verified", "tiny-1", "--slot", "green")) == (9, "not_staged")
        assert stand.hostside("release", "verified", "tiny-1", "--slot", "blue")[1]["changed"] is True
        assert stand.hostside("release", "verified", "tiny-1", "--slot", "blue")[1]["changed"] is False
        (known,) = stand.hostside("release", "list")[1]["releases"]
        assert (known["name"], bool(known["verified_at"])) == ("tiny-1", True)

    def test_a_verified_name_means_one_digest_for_ever(self, stand):
        stand.stage("blue", stand.release("tiny-1"))
        changed = stand.release("tiny-1", "--tools", "a")
        assert stand.stage("blue", changed)[0] == 0
        stand.hostside("release", "verified", "tiny-1", "--slot", "blue")
        assert error_of(stand.stage("blue", stand.release("tiny-1"))) == (9, "name_taken")

    def test_a_known_release_is_staged_again_without_its_file(self, stand):
        stand.stage("blue", stand.release("tiny-1"))
        stand.hostside("slot", "remove", "blue")
        assert stand.hostside("slot", "stage", "blue", "--release", "tiny-1")[0] == 0
        assert stand.show("blue")["exact"]
        assert error_of(stand.hostside("slot", "stage", "green", "--release", "tiny-9")) == (2, "unknown_release")
