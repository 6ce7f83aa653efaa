"""The roles hostside and front, by the real Ansible, under a real supervisord, as an ordinary user."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.front_stand import REPOSITORY, Backend, Clients, Load, haproxy_program, self_signed, wait_for
from tests.integration.test_front import Stream

BIN = Path(sys.executable).parent
PORT = 18130


class Place(Clients):
    """A supervisord, two backends, and an inventory of this machine."""

    port = PORT

    def __init__(self, home: Path) -> None:
        self.home, self.state = home, home / "state"
        self.backends = [Backend("blue", PORT + 1), Backend("green", PORT + 2)]
        self.supervisord: subprocess.Popen[bytes] | None = None
        (home / "programs").mkdir()
        (home / "supervisord.conf").write_text(
            f"[supervisord]\nnodaemon=true\nlogfile={home}/supervisord.log\npidfile={home}/supervisord.pid\n"
            f"[unix_http_server]\nfile={home}/s.sock\nchmod=0600\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory="
            "supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisorctl]\nserverurl=unix://{home}/s.sock\n[include]\nfiles={home}/programs/*.conf\n"
        )
        (home / "front.pem").write_bytes(self_signed("time.local.test"))

    def start(self) -> None:
        for backend in self.backends:
            backend.start()
        self.supervisord = subprocess.Popen(
            [BIN / "supervisord", "-c", self.home / "supervisord.conf"], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd=self.home,
        )  # fmt: skip
        wait_for("supervisord listens", (self.home / "s.sock").exists)

    def stop(self) -> None:
        if self.supervisord:
            self.supervisord.terminate()
            self.supervisord.wait(20)
        for backend in self.backends:
            backend.kill()

    @property
    def variables(self) -> dict[str, Any]:
        return {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "hostside_path": str(self.home / "lib/hostside.pyz"),
            "service_state_dir": str(self.state),
            "front_service": "time",
            "front_port": PORT,
            "front_certificate": str(self.home / "front.pem"),
            "front_slots": {b.slot: {"address": "127.0.0.1", "port": b.port} for b in self.backends},
            "front_supervisor": "supervisord",
            "front_supervisorctl": [str(BIN / "supervisorctl"), "-c", str(self.home / "supervisord.conf")],
            "front_programs_dir": str(self.home / "programs"),
            "front_haproxy": haproxy_program(),
        }

    def play(self, *tasks_from: str, check: bool = False, expect: int = 0, **variables: Any) -> str:
        """Run the roles (hostside main, front main) or the given task files of `front`; return what Ansible printed."""
        roles = [{"import_role": {"name": "hostside"}}, {"import_role": {"name": "front"}}]
        files = [{"import_role": {"name": "front", "tasks_from": name}} for name in tasks_from]
        playbook = [{"hosts": "all", "gather_facts": False, "tasks": files or roles}]
        (self.home / "play.yml").write_text(yaml.safe_dump(playbook))
        inventory = {"all": {"hosts": {"here": {**self.variables, **variables}}}}
        (self.home / "inventory.yml").write_text(yaml.safe_dump(inventory))
        environment = {
            **os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(self.home / "tmp"), "ANSIBLE_REMOTE_TEMP": str(self.home / "rtmp"),
            "ANSIBLE_SHOW_CUSTOM_STATS": "1", "PYTHONPATH": str(REPOSITORY),
        }  # fmt: skip
        done = subprocess.run(
            [BIN / "ansible-playbook", "-i", "inventory.yml", "play.yml", *(["--check"] if check else [])],
            cwd=self.home, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == expect, done.stdout[-6000:] + done.stderr[-2000:]
        return done.stdout

    def status(self) -> dict[str, Any]:
        words = [sys.executable, "-I", self.variables["hostside_path"], "--state", str(self.state), "status"]
        return json.loads(subprocess.run(words, capture_output=True, check=True, timeout=20).stdout)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    try:
        place.start()
        yield place
    finally:
        place.stop()


def changed(printed: str) -> list[str]:
    """The names of the tasks that changed something, from `TASK [name] ***` and `changed: [here]`."""
    names = []
    for line in printed.splitlines():
        if line.startswith(("TASK [", "RUNNING HANDLER [")):
            names.append([line[line.index("[") + 1 : line.rindex("]")], False])
        elif line.startswith("changed: ["):
            names[-1][1] = True
    return [name for name, was in names if was]


@pytest.mark.slow
def test_check_install_repeat_reload_and_take_back(place: Place) -> None:
    assert changed(place.play(check=True)), "a check on an empty host predicts changes"
    assert not place.state.exists(), "and makes none"

    place.play()
    status = place.status()
    assert (status["proxy"], status["in_sync"], status["active"], status["generation"]) == (True, True, "none", 0)
    assert place.state.stat().st_mode & 0o777 == 0o700
    assert all((place.state / name).stat().st_mode & 0o777 == 0o600 for name in ("active.map", "haproxy.cfg"))
    assert changed(place.play()) == [], "a second run changes nothing"
    assert changed(place.play(check=True)) == []

    (place.state / "active.map").write_text("time blue\ntime.generation 7\ntime.phase steady\n")
    assert changed(place.play(front_rate_limit_per_ip=77)) == [
        "front : Configure the proxy",
        RELOAD,
    ]
    assert (place.status()["active"], place.status()["generation"]) == ("blue", 7), "a map is never written again"
    wait_for("the reloaded proxy reads the map", lambda: place.status()["in_sync"])

    assert '"probe": "not_done"' in place.play("probe"), "its files are of other variables"
    assert '"probe": "done"' in place.play("probe", front_rate_limit_per_ip=77)
    place.play("undo")
    assert (place.state / "active.map").exists()
    assert not (place.state / "haproxy.cfg").exists()
    assert '"probe": "not_done"' in place.play("probe")


SERVE = "front : Serve what the file of the certificate holds"
RELOAD = "front : Reload by supervisord"


def renew(path: Path) -> str:
    """Put a new certificate in place of the old one, as a setup that was killed thereafter; return it."""
    path.write_bytes(self_signed("time.local.test"))
    text = path.read_text()
    return text[: text.index("-----BEGIN PRIV")]


def served() -> str:
    return ssl.get_server_certificate(("127.0.0.1", PORT))


@pytest.mark.slow
def test_a_certificate_that_was_replaced_is_served_by_the_next_run(place: Place) -> None:
    directory = place.home / "certificates"
    directory.mkdir()
    renew(directory / "b.pem")
    place.state.mkdir(mode=0o700)
    (place.state / "active.map").write_text("time blue\ntime.generation 1\ntime.phase steady\n")
    place.play(front_certificate=str(directory))
    before, new = served(), renew(directory / "b.pem")
    with Load(place, rate=50) as load, Stream(place) as stream:
        assert changed(place.play(check=True, front_certificate=str(directory))) == [SERVE]
        assert served() == before, "a check changes nothing"
        assert changed(place.play(front_certificate=str(directory))) == [SERVE], "no reload"
        assert served() == new
        assert changed(place.play(front_certificate=str(directory))) == [], "a second run changes nothing"

        first = renew(directory / "a.pem")
        assert changed(place.play(front_certificate=str(directory))) == [SERVE, RELOAD], "only that takes in another"
        assert served() == first
        assert stream.still_lives()
    assert load.failed == []

    (directory / "c.pem").write_text(first)  # without its key: a reloaded proxy could not be started again
    assert "c.pem" in place.play(front_certificate=str(directory), expect=2)
    assert served() == first
    assert place.status()["proxy"] is True


def test_a_configuration_that_haproxy_refuses_leaves_the_running_one(place: Place) -> None:
    place.play()
    before = (place.state / "haproxy.cfg").read_bytes()
    report = place.play(expect=2, front_health_status="not a status!")
    assert "failed to validate" in report
    assert (place.state / "haproxy.cfg").read_bytes() == before
    assert place.status()["proxy"] is True


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"front_port": PORT + 1}, "differ"),
        ({"front_rate_limit_per_session": 1000}, "not above"),
        ({"front_supervisorctl": []}, "needs front_supervisorctl"),
        ({"front_service": "Time Zone"}, "a word of"),
        ({"front_supervisor": "cron"}, "value of front_supervisor must be one of"),
    ],
)
def test_variables_that_do_not_fit_are_refused_before_anything_is_written(
    place: Place, variables: dict[str, Any], said: str
) -> None:
    assert said in " ".join(place.play(expect=2, **variables).split())
    assert not (place.state / "haproxy.cfg").exists()
