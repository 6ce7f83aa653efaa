"""`mcpops deploy` as people type it: what goes right, and everything that can be wrong with a release."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mcpops.core.clock import SystemClock
from mcpops.tls.ca import CertificateAuthority
from tests.e2e.stand import FIRST, NEXT, QUICK, Ended, Load, Project


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
    planned = [project.run("deploy", name, "--plan", "--until", "freeze") for name in (NEXT, NEXT, FIRST)]
    digests = [ended.out["plan_digest"] for ended in planned]

    assert digests[0] == digests[1] != digests[2]


LOST = {"--mode=500": "--mode=none", "--after=20": "--hide-tool=convert_time"}


def test_a_release_that_lost_a_tool_is_named_before_any_client_sees_it(project):
    before = project.serving()
    name = project.release("time-lost", like="time-broken", replace=LOST)

    with Load(project) as load:
        ended = project.run("deploy", name, *QUICK)

    assert ended.code == 5, ended.error
    assert "convert_time" in ended.error
    assert failed_step(ended) == "prove"
    assert load.failed == []
    assert project.serving() == before


@pytest.mark.slow
def test_a_tool_may_go_when_the_release_says_so(project):
    name = project.release("time-fewer", like="time-broken", replace=LOST, append="removed_tools: [convert_time]\n")

    with Load(project) as load:
        ended = project.run("deploy", name, "--until", "prove")

    assert (ended.code, load.failed) == (0, []), ended.error


def test_a_release_that_never_gets_healthy_leaves_the_old_one_serving(project):
    before = project.serving()
    changes = {"health_path: /status": "health_path: /never", "start_timeout_s: 30": "start_timeout_s: 3"}
    name = project.release("time-ill", replace=changes)

    with Load(project) as load:
        ended = project.run("deploy", name, *QUICK)

    assert ended.code == 5, ended.error
    assert "/never" in ended.error
    assert failed_step(ended) == "stage"
    assert load.failed == []
    assert project.serving() == before


def test_a_disk_that_is_full_while_staging_leaves_the_old_release_serving(project):
    before = project.front()
    idle = "green" if before["active"] == "blue" else "blue"
    name = project.release("time-big")

    with small_disk(project.state / "service/slots" / idle), Load(project) as load:
        ended = project.run("deploy", name, *QUICK)

    assert ended.code == 5, ended.error
    assert "No space left on device" in ended.error
    assert failed_step(ended) == "stage"
    assert load.failed == []
    assert project.front()["release"] == before["release"]
    assert project.front()["slots"][idle]["release"] == before["slots"][idle]["release"], "the idle slot is as it was"


def test_a_front_that_is_out_of_reach_is_named_and_nothing_changes_on_the_others(project):
    before = project.front()
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    name = project.environment("far", hosts=TWO_FRONTS.format(port=port))

    with Load(project) as load:
        ended = project.run("deploy", project.other(), *QUICK, "-e", name)

    assert ended.code == 3, ended.error
    assert "far" in ended.out["reason"]
    assert failed_step(ended) == "preflight"
    assert load.failed == []
    after = project.front()
    assert [after[key] for key in ("release", "generation")] == [before[key] for key in ("release", "generation")]


TWO_FRONTS = """\
all:
  children:
    fronts:
      hosts:
        local:
          ansible_connection: local
          ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"
        far:
          ansible_host: 127.0.0.1
          ansible_port: {port}
"""


@pytest.mark.parametrize(
    ("fault", "said"),
    [("expired", "expired"), pytest.param("stranger", "self-signed certificate", marks=pytest.mark.slow)],
)
def test_a_bad_certificate_that_is_really_served_stops_the_deploy(project, fault, said):
    before = project.serving()

    with served(project, bad_certificate(project, fault)), Load(project, verify=False) as load:
        ended = project.run("deploy", project.other(), *QUICK)

    assert ended.code == 1, ended.error
    assert said in ended.error
    assert failed_step(ended) == "preflight"
    assert load.failed == []
    assert project.serving() == before
    with Load(project) as load:
        pass
    assert load.failed == [], "the good certificate is back"


def failed_step(ended: Ended) -> str | None:
    """The first step that was not good."""
    return next((step["name"] for step in ended.out["steps"] if step["state"] in ("failed", "unknown")), None)


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """Put what is in the directory on a file system of its own that has 2 MB left."""
    if os.geteuid() != 0:
        pytest.skip("not on this machine: a small file system needs root")
    used = sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))
    aside = directory.with_name("aside")
    shutil.copytree(directory, aside, symlinks=True)
    argv = ["mount", "-t", "tmpfs", "-o", f"mode=0700,size={used + 2_000_000}", "mcpops-small", str(directory)]
    if subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode:
        shutil.rmtree(aside)
        pytest.skip("not on this machine: root may not mount a file system here")
    try:
        shutil.copytree(aside, directory, symlinks=True, dirs_exist_ok=True)
        yield
    finally:
        shutil.rmtree(aside)
        subprocess.run(["umount", "--lazy", str(directory)], timeout=20, check=True)


def bad_certificate(project: Project, fault: str) -> str:
    """A certificate and its key in PEM that no client accepts: it ended, or nobody known signed it."""
    begun = SystemClock().now() - timedelta(days=30)
    clock = Fixed(begun if fault == "expired" else SystemClock().now())
    home = project.home / f"bad-{fault}"
    if fault == "stranger":
        authority = CertificateAuthority.ensure(home, "somebody else", clock)
    else:
        authority = replace(CertificateAuthority.ensure(project.state / "ca", "mcpops"), clock=clock)
    return authority.issue("bad", ["time.local.test"], home, days=20).combined.read_text()


@dataclass(frozen=True)
class Fixed:
    """A clock that stands."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def monotonic_s(self) -> float:
        return 0.0


@contextmanager
def served(project: Project, pem: str) -> Iterator[None]:
    """Let the front serve another certificate, in its memory alone, as a careless hand would; then the right one."""
    path = project.state / "ca/front.pem"

    def serve(text: str) -> None:
        told = ask_proxy(project, f"set ssl cert {path} <<\n{text}\n") + ask_proxy(project, f"commit ssl cert {path}")
        assert "Success!" in told, told

    serve(pem)
    try:
        yield
    finally:
        serve(path.read_text())


def ask_proxy(project: Project, words: str) -> str:
    """Give one command to the proxy's admin socket; return its answer."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(10)
        admin.connect(str(project.state / "service/admin.sock"))
        admin.sendall(f"{words}\n".encode())
        answer = b""
        while chunk := admin.recv(65536):
            answer += chunk
    return answer.decode()
