"""The roles hostside and front on a real Debian host: package, systemd, HAProxy 2.6 as its own user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcpops.lab.lab import Lab, to_stderr
from tests.integration.front_stand import REPOSITORY, self_signed, wait_for
from tests.integration.test_front_role import changed

STATE = "/var/lib/mcpops/time"
UNIT = "mcpops-front-time.service"

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab("frontlab", say=to_stderr)
    made.down()
    made.up(["front"])
    made["front"].put("/etc/mcpops/front.pem", self_signed("time.lab.test").decode(), mode=0o600)
    yield made
    made.down()


def play(lab: Lab, home: Path, *arguments: str, tasks_from: str = "main", **variables: Any) -> str:
    roles = [{"import_role": {"name": "hostside"}}] if tasks_from == "main" else []
    front = {"import_role": {"name": "front", "tasks_from": tasks_from}}
    (home / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [*roles, front]}]))
    slots = {slot: {"address": "127.0.0.1", "port": port} for slot, port in (("blue", 18111), ("green", 18112))}
    host = {
        "ansible_python_interpreter": "/usr/bin/python3",
        "service_state_dir": STATE,
        "hostside_path": "/usr/local/lib/mcpops/hostside.pyz",
        "front_service": "time",
        "front_port": 443,
        "front_url": "https://127.0.0.1",
        "front_addresses": ["0.0.0.0", "[::]"],
        "front_certificate": "/etc/mcpops/front.pem",
        "front_driver": "container",
        "front_slots": slots,
        "front_user": "haproxy",
        "front_group": "haproxy",
        **variables,
    }
    (home / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": {"front": host}}}))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "inventory.yml", "play.yml", *arguments],
        cwd=home, capture_output=True, text=True, timeout=180, check=False,
        env={
            **os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_ARGS": f"-F {lab.directory}/ssh_config", "PYTHONPATH": str(REPOSITORY),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout.replace("changed: [front]", "changed: [here]")


def status(lab: Lab) -> dict[str, Any]:
    program = "python3 -I /usr/local/lib/mcpops/hostside.pyz"
    return dict(json.loads(lab["front"].ssh(f"{program} --state {STATE} status").stdout))


@pytest.mark.slow
def test_install_reload_reboot_and_take_back(lab: Lab, tmp_path: Path) -> None:
    host = lab["front"]
    assert changed(play(lab, tmp_path, "--check")), "a check on a bare host predicts changes"
    play(lab, tmp_path)
    assert (status(lab)["proxy"], status(lab)["in_sync"], status(lab)["active"]) == (True, True, "none")
    assert host.ssh(f"systemctl is-active {UNIT}").stdout == "active\n"
    assert "inactive" in host.ssh("systemctl is-active haproxy.service", check=False).stdout
    workers = host.ssh("ps -o user= -C haproxy").stdout.split()
    assert sorted(workers) == ["haproxy", "root"], "a master that reads private files, a worker without rights"
    assert host.ssh(f"stat -c '%a %U' {STATE}/admin.sock").stdout == "600 root\n"

    for address in (host.ipv4, f"[{host.ipv6}]"):
        words = ["curl", "-ks", "-o", "/dev/null", "-w", "%{http_code}", f"https://{address}/mcp"]
        assert lab.outside.run(words).stdout == "503", "seen from another place"

    assert changed(play(lab, tmp_path)) == []
    main_pid = host.ssh(f"systemctl show -P MainPID {UNIT}").stdout
    printed = play(lab, tmp_path, front_rate_limit_per_ip=77)
    assert changed(printed) == ["front : Configure the proxy", "front : Reload by systemd"], printed
    assert host.ssh(f"systemctl show -P MainPID {UNIT}").stdout == main_pid

    a_renewed_certificate_is_served(lab, tmp_path)
    assert host.ssh(f"systemctl show -P MainPID {UNIT}").stdout == main_pid
    main_pid = a_front_that_cannot_start_for_a_while_comes_back(lab)

    host.ssh(f"printf 'time blue\\ntime.generation 3\\ntime.phase steady\\n' > {STATE}/active.map")
    host.ssh(f"kill -9 {main_pid}")
    wait_for("systemd starts it again with what is on disk", lambda: status(lab)["in_sync"], 15)
    assert status(lab)["generation"] == 3

    play(lab, tmp_path, tasks_from="undo")
    assert "inactive" in host.ssh(f"systemctl is-active {UNIT}", check=False).stdout
    assert status_fails(lab)


def a_renewed_certificate_is_served(lab: Lab, home: Path) -> None:
    host, pem = lab["front"], self_signed("time.lab.test").decode()
    host.put("/etc/mcpops/front.pem", pem, mode=0o600)
    serve = ["front : Serve what the file of the certificate holds"]
    assert changed(play(lab, home, "--check")) == serve
    assert changed(play(lab, home)) == serve
    for address in (host.ipv4, host.ipv6):
        words = ["python3", "-c", f"import ssl; print(ssl.get_server_certificate(({address!r}, 443)))"]
        assert lab.outside.run(words).stdout.strip() in pem, "seen from another place"
    assert changed(play(lab, home)) == []


def a_front_that_cannot_start_for_a_while_comes_back(lab: Lab) -> str:
    """Kill it while its configuration is away; return its new process id."""
    host = lab["front"]
    host.ssh(f"mv {STATE}/haproxy.cfg {STATE}/away && systemctl kill --signal=KILL {UNIT}")
    tried = f"systemctl show -P NRestarts {UNIT}"
    wait_for("systemd tries more often than its own limit, 5 in 10 s", lambda: int(host.ssh(tried).stdout) > 8, 30)
    host.ssh(f"mv {STATE}/away {STATE}/haproxy.cfg")
    wait_for("it serves again", lambda: status(lab)["in_sync"], 15)
    return str(host.ssh(f"systemctl show -P MainPID {UNIT}").stdout)


def status_fails(lab: Lab) -> bool:
    program = f"python3 -I /usr/local/lib/mcpops/hostside.pyz --state {STATE} status"
    return "not_set_up" in lab["front"].ssh(program, check=False).stdout
