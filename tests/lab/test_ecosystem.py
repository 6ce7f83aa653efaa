"""The lab as an environment: registry with TLS and login, images by digest, releases, inventory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcpops.deploy.release import load_release

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def image(ecosystem) -> str:
    return load_release(ecosystem.releases / "time-2026.7.10.yml").artifact["image"]


def test_the_releases_are_valid_and_name_two_images(ecosystem):
    releases = [load_release(path) for path in sorted(ecosystem.releases.glob("*.yml"))]
    assert [release.name for release in releases] == ["time-2026.10.10", "time-2026.7.10"]
    assert len({release.artifact["image"] for release in releases}) == 2
    assert ecosystem.status()["releases"] == ["time-2026.7.10", "time-2026.10.10"]


def test_a_front_pulls_by_digest_and_runs_the_real_server(ecosystem, image):
    host = ecosystem.lab["front1"]
    host.ssh(f"docker pull -q {image}")
    assert host.ssh(f"docker inspect -f '{{{{index .RepoDigests 0}}}}' {image}").stdout.strip() == image
    host.ssh(f"docker run -d --name server --read-only --cap-drop ALL -p 127.0.0.1:18111:8000 {image}")
    try:
        host.ssh("until curl -fs http://127.0.0.1:18111/status; do sleep .1; done", timeout_s=30)
        assert _server_of(host) == "mcp-time"
        assert host.ssh("docker exec server python3 -c 'import os; print(os.getuid())'").stdout == "10001\n"
        assert (
            host.ssh("docker stop server && docker inspect -f '{{.State.ExitCode}}' server").stdout.split()[-1] == "0"
        )
    finally:
        host.ssh("docker rm -f server")


def _server_of(host) -> str:
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }  # fmt: skip
    answer = host.ssh(
        "curl -fs -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' -d @- "
        "http://127.0.0.1:18111/mcp/",
        stdin=json.dumps(body),
    ).stdout
    data = next((line[6:] for line in answer.splitlines() if line.startswith("data: ")), answer)
    return json.loads(data)["result"]["serverInfo"]["name"]


def test_without_the_login_nothing_is_pulled(ecosystem, image):
    host = ecosystem.lab["front2"]
    done = host.ssh(f"DOCKER_CONFIG=/nowhere docker pull -q {image}", check=False)
    assert done.returncode == 1
    assert "no basic auth credentials" in done.stderr


def test_without_the_authority_nothing_is_pulled(ecosystem, image):
    host = ecosystem.lab["front2"]
    host.ssh("mv /etc/docker/certs.d /etc/docker/aside")
    try:
        done = host.ssh(f"docker pull -q {image}", check=False)
    finally:
        host.ssh("mv /etc/docker/aside /etc/docker/certs.d")
    assert done.returncode == 1
    assert "certificate" in done.stderr


def test_a_wrong_digest_is_not_there(ecosystem, image):
    wrong = image[:-8] + "00000000"
    done = ecosystem.lab["front1"].ssh(f"docker pull -q {wrong}", check=False)
    assert done.returncode == 1
    assert "manifest unknown" in done.stderr


def test_the_login_is_private(ecosystem):
    assert ecosystem.lab["front1"].ssh("stat -c '%a %U' /root/.docker/config.json").stdout == "600 root\n"
    password = (ecosystem.lab.directory / "registry/password").read_text()
    for path in ecosystem.project.rglob("*"):
        assert not path.is_file() or password not in path.read_text()
    assert (ecosystem.lab.directory / "registry/password").stat().st_mode & 0o777 == 0o600
    assert ecosystem.lab.directory.stat().st_mode & 0o777 == 0o700


def test_ansible_reaches_every_host_by_the_inventory(ecosystem, tmp_path):
    empty = tmp_path / "ansible.cfg"
    empty.write_text("")
    program = Path(sys.executable).parent / "ansible"
    done = subprocess.run(
        [program, "-i", ecosystem.inventory.parent, "all", "-m", "ansible.builtin.command", "-a", "hostname", "-o"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(empty), "ANSIBLE_SSH_ARGS": "-o ControlMaster=no",
             "ANSIBLE_LOCAL_TEMP": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(line.split()[-1] for line in done.stdout.splitlines() if "(stdout)" in line) == [
        "front1", "front2", "registry1",
    ]  # fmt: skip


def test_up_again_keeps_hosts_and_digests(ecosystem, image):
    boots = {name: host.boot_id() for name, host in ecosystem.lab.hosts.items()}
    found = ecosystem.up()
    assert found["state"] == "up"
    assert {name: host.boot_id() for name, host in ecosystem.lab.hosts.items()} == boots
    assert load_release(ecosystem.releases / "time-2026.7.10.yml").artifact["image"] == image
