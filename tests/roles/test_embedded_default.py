"""The embedded default through plain ansible-playbook: up, deploys good and bad, down; with the real MCP server."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import valkey
import yaml

from mcpops.deploy import embedded
from mcpops.deploy.wheelhouse import fill
from mcpops.hostside.probe import PROTOCOL, Session, Target, probe
from mcpops.tls.ca import CertificateAuthority

ROOT = Path(__file__).parents[2]
PORT = 18240
FIRST, SECOND = "time-2026.7.10", "time-2026.10.10"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # 80 s of CPU; the rest is other work on the machine


class Embedded:
    """An embedded default on ports of its own."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.home = project / ".mcpops/local"
        self.url = f"https://127.0.0.1:{PORT}/mcp"
        self.cafile = self.home / "ca/ca.crt"
        self.fence = 0

    def play(self, playbook: str, *options: str, **variables: Any) -> tuple[int, str]:
        self.fence += 1
        given = {
            "mcpops_project": str(self.project),
            "front_port": PORT,
            "front_metrics_port": PORT + 1,
            "embedded_valkey_port": PORT + 2,
            "front_slots": {
                "blue": {"address": "127.0.0.1", "port": PORT + 3},
                "green": {"address": "127.0.0.1", "port": PORT + 4},
            },
            "mcpops_run": f"run-{self.fence}",
            "mcpops_fence": self.fence,
            "blue_green_bake_s": 1,
            "blue_green_drain_s": 1,
            **variables,
        }
        argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(ROOT / "inventories/local")]
        done = subprocess.run(
            [*argv, "-e", json.dumps(given), *options, str(ROOT / "playbooks" / f"{playbook}.yml")],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def deploy(self, release: str | Path, *options: str) -> tuple[int, str]:
        path = release if isinstance(release, Path) else ROOT / f"releases/{release}.yml"
        return self.play("deploy", *options, release_file=str(path))

    def stage_prove_undo(self, release: Path) -> tuple[int, str]:
        """Stage and prove a release in the idle slot by the role, and take it back, as a failed deploy does."""
        active = self.status()["active"]
        files = ["main", "verify", "undo"]
        role = ROOT / "roles/mcp_server"
        stage, verify, undo = ({"import_role": {"name": str(role), "tasks_from": file}} for file in files)
        path = self.project / "try.yml"
        tasks = [{"block": [stage, verify], "always": [undo]}]
        path.write_text(yaml.safe_dump([{"hosts": "fronts", "gather_facts": False, "tasks": tasks}]))
        idle = "green" if active == "blue" else "blue"
        return self.play(str(path.with_suffix("")), release_file=str(release), slot=idle, active_slot=active)

    def status(self) -> dict[str, Any]:
        argv = [sys.executable, "-I", str(self.home / "hostside.pyz"), "--state", str(self.home / "service"), "status"]
        return json.loads(subprocess.run(argv, capture_output=True, timeout=20, check=True).stdout)

    def seen_by_a_client(self) -> dict[str, Any]:
        return probe(Target(self.url, str(self.cafile), "time.local.test"))

    def served_certificate(self) -> str:
        return ssl.get_server_certificate(("127.0.0.1", PORT), ca_certs=str(self.cafile))

    def broken_release(self, name: str, **changes: Any) -> Path:
        """Write the project's broken release with changes."""
        directory = self.project / "releases"
        directory.mkdir(exist_ok=True)
        release = yaml.safe_load((ROOT / "releases/time-broken.yml").read_text())
        for file in (release["artifact"]["lock"], *release["files"]):
            shutil.copy(ROOT / "releases" / file, directory)
        path = directory / f"{name}.yml"
        path.write_text(yaml.safe_dump({**release, "name": name, **changes}))
        return path


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    project = tmp_path_factory.mktemp("p")
    fill(sorted((ROOT / "releases").glob("*.lock")), ROOT / "wheelhouse")
    (project / "wheelhouse").symlink_to(ROOT / "wheelhouse")
    local = Embedded(project)
    try:
        code, said = local.play("setup")
        assert code == 0, said
        yield local
        code, said = local.play("teardown")
        assert code == 0, said
        assert embedded.processes(local.home) == []
    finally:
        embedded.stop(local.home, local.home / "supervisor/control.sock")


def command_with(*options: str) -> list[str]:
    """Return the command of the project's broken release with other options in place of what breaks it."""
    command = yaml.safe_load((ROOT / "releases/time-broken.yml").read_text())["command"]
    at = command.index("--mode=500")
    return [*command[:at], *options, *command[at + 2 :]]


@contextmanager
def session_of(local: Embedded) -> Iterator[Session]:
    """A client that goes on."""
    session = Session(Target(local.url, str(local.cafile), "time.local.test"))
    client = {"name": "test", "version": "1"}
    session.call("initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client})
    session.notify("notifications/initialized")
    try:
        yield session
    finally:
        session.end()


def changed(said: str) -> int:
    found = re.search(r"changed=(\d+)", said)
    assert found, said
    return int(found[1])


@pytest.fixture(scope="module")
def deployed(local: Embedded) -> Embedded:
    """The first release serves."""
    code, said = local.deploy(FIRST)
    assert code == 0, said
    return local


def test_a_second_setup_changes_nothing_and_check_mode_passes(local):
    code, said = local.play("setup", "-vvv")
    assert (code, changed(said)) == (0, 0), said
    assert (local.home / "valkey/password").read_text().strip() not in said
    code, said = local.play("setup", "--check")
    assert (code, changed(said)) == (0, 0), said


def test_private_files_are_private(local):
    private = [
        "ca/ca.key",
        "ca/front.key",
        "ca/front.pem",
        "valkey/valkey.conf",
        "valkey/password",
        "service/service.json",
    ]
    modes = {name: oct((local.home / name).stat().st_mode & 0o777) for name in private}
    assert set(modes.values()) == {"0o600"}, modes


def test_the_store_wants_its_password(local):
    password = (local.home / "valkey/password").read_text().strip()
    with valkey.Valkey(port=PORT + 2, password=password) as client:
        assert client.ping()
    with valkey.Valkey(port=PORT + 2) as stranger, pytest.raises(valkey.AuthenticationError):
        stranger.ping()


def test_two_deploys_in_a_row(deployed):
    before = deployed.seen_by_a_client()
    code, said = deployed.deploy(SECOND)
    assert code == 0, said
    after = deployed.seen_by_a_client()
    assert before["slot"] != after["slot"]
    assert after["server"]["version"] == SECOND.removeprefix("time-")
    status = deployed.status()
    assert (status["active"], status["release"], status["phase"]) == (after["slot"], SECOND, "steady")
    assert status["slots"][before["slot"]]["running"] is False, "retired"


class TestBadReleases:
    """Each fails before the switch, says why, and the slot gets back what it had."""

    @pytest.fixture(autouse=True)
    def _nothing_else_changed(self, deployed: Embedded) -> Iterator[None]:
        before = deployed.status()
        yield
        after = deployed.status()
        assert after["activations"] == before["activations"]
        assert {slot: row["release"] for slot, row in after["slots"].items()} == {
            slot: row["release"] for slot, row in before["slots"].items()
        }
        assert deployed.seen_by_a_client()["slot"] == before["active"]
        assert (deployed.home / "service/preview.map").read_text() == "", "a preview token was left"

    @pytest.mark.parametrize(
        ("name", "changes", "says"),
        [
            ("time-lost-tool", {"command": command_with("--hide-tool=convert_time")}, "lost tools: convert_time"),
            ("time-bad-canary", {"canary": {"tool": "no_such_tool"}}, "the canary no_such_tool failed"),
            ("time-not-starting", {"command": command_with("--no-such-option")}, "no-such-option"),
            ("time-never-healthy", {"health_path": "/nothing", "start_timeout_s": 12}, "HTTP 404"),
        ],
        ids=lambda value: value if isinstance(value, str) and value.startswith("time-") else "",
    )
    def test_it(self, deployed, name, changes, says):
        code, said = deployed.stage_prove_undo(deployed.broken_release(name, **changes))
        assert code != 0
        assert says in said, said

    def test_a_tool_that_is_removed_on_purpose(self, deployed):
        command = command_with("--hide-tool=convert_time")
        release = deployed.broken_release("time-less", command=command, removed_tools=["convert_time"])
        code, said = deployed.stage_prove_undo(release)
        assert code == 0, said

    def test_a_release_file_with_mistakes_changes_nothing(self, deployed):
        path = deployed.broken_release("time-typo", comand=["x"])
        code, said = deployed.deploy(path)
        assert code != 0
        assert "unknown key 'comand'" in said


def test_a_renewed_certificate_is_served_after_setup(deployed):
    certificate, served = deployed.home / "ca/front.crt", deployed.served_certificate
    before = served()
    with session_of(deployed) as session:
        local = session.connection.sock.getsockname()
        certificate.unlink()  # a setup issues anew what is absent, as it does what expires
        code, said = deployed.play("setup", "--check")
        assert (code, changed(said), certificate.exists()) == (0, 1, False), said
        code, said = deployed.play("setup")
        assert (code, changed(said)) == (0, 2), said
        assert before != served() == certificate.read_text()
        assert session.call("tools/list", {})["tools"], "the session is served"
        assert session.connection.sock.getsockname() == local, "on the same connection"

        certificate.unlink()
        names = ["time.local.test", "localhost", "127.0.0.1", "::1"]
        CertificateAuthority.ensure(deployed.home / "ca", "").issue("front", names, deployed.home / "ca")
        assert served() != certificate.read_text(), "as a setup leaves it that is killed before it comes to the front"
        code, said = deployed.play("setup", "--check")
        assert (code, changed(said)) == (0, 1), said
        code, said = deployed.play("setup")
        assert (code, changed(said)) == (0, 1), said
        assert served() == certificate.read_text()
        assert session.connection.sock.getsockname() == local
    code, said = deployed.play("setup")
    assert (code, changed(said)) == (0, 0), said


def test_after_a_kill_of_supervisord_setup_brings_the_same_state_back(deployed):
    serving = deployed.seen_by_a_client()["server"]
    (daemon,) = [item for item in embedded.processes(deployed.home) if "supervisord" in item.command]
    os.kill(daemon.pid, signal.SIGKILL)
    code, said = deployed.play("setup")
    assert code == 0, said
    assert deployed.seen_by_a_client()["server"] == serving


def test_teardown_leaves_nothing_and_setup_brings_the_same_state_back(deployed):
    before = deployed.status()
    code, said = deployed.play("teardown")
    assert code == 0, said
    assert embedded.processes(deployed.home) == []
    code, said = deployed.play("teardown")
    assert (code, changed(said)) == (0, 0), said
    assert deployed.play("setup")[0] == 0
    after = deployed.status()
    assert (after["active"], after["generation"]) == (before["active"], before["generation"])
    assert deployed.seen_by_a_client()["slot"] == before["active"]
