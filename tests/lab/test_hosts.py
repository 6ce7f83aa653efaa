"""What tests can do with lab hosts: packages, both address families, firewall, Docker, and every kind of end."""

import socket
import time

import pytest
import yaml

from mcpops.core.errors import Failed
from mcpops.lab.files import DATA

pytestmark = pytest.mark.lab

PAGE = """
import http.server, socket
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
http.server.ThreadingHTTPServer.request_queue_size = 256
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(self.client_address[0].encode())
Server(("::", 8080), Handler).serve_forever()
"""


def _curl(*words: str) -> list[str]:
    return ["curl", "--noproxy", "*", "-gs", "-m", "1", *words]


def _status(lab, url: str) -> str:
    """The HTTP status seen from outside the hosts; 000 when nothing answers."""
    return lab.outside.run(_curl("-o", "/dev/null", "-w", "%{http_code}", url)).stdout


@pytest.fixture(scope="module")
def lab(ecosystem):
    return ecosystem.lab


@pytest.fixture(scope="module")
def page(lab):
    """A page on front1, port 8080, that says who asked."""
    host = lab["front1"]
    host.put("/srv/page.py", PAGE)
    host.ssh("systemd-run -q --unit=page python3 /srv/page.py; until ss -ltn | grep -q :8080; do sleep .1; done")
    return host


def test_three_hosts_run_all_their_units(lab):
    assert set(lab.hosts) >= {"front1", "front2", "registry1"}
    for name, host in lab.hosts.items():
        assert host.ssh("systemctl is-system-running --wait").stdout == "running\n"
        assert host.ssh("hostname").stdout == f"{name}\n"


def test_a_host_is_a_namespace_of_its_own(lab):
    seen = {host.ssh("readlink /proc/self/ns/net").stdout for host in lab.hosts.values()}
    seen.add(lab.outside.run(["readlink", "/proc/self/ns/net"]).stdout)
    assert len(seen) == len(lab.hosts) + 1


def test_hosts_reach_each_other_by_name_in_both_families(lab):
    for family in ("-4", "-6"):
        lab["front1"].ssh(f"ping {family} -c 1 -W 2 front2")


def test_packages_come_from_the_local_repository(lab):
    host = lab["front2"]
    host.ssh("DEBIAN_FRONTEND=noninteractive apt-get -qq install haproxy")
    assert "2.6.12" in host.ssh("haproxy -v").stdout


def test_docker_has_overlay2_and_compose(lab):
    saw = lab["front1"].ssh("docker info -f '{{.Driver}}' && docker compose version --short").stdout.split()
    assert saw[0] == "overlay2"
    assert int(saw[1].lstrip("v").split(".")[0]) >= 2


def test_a_hundred_clients_in_both_families_are_told_apart(lab, page):
    pairs = lab.outside.clients(120)
    assert len(pairs) == 120
    urls = (f"http://{page.ipv4}:8080/", f"http://[{page.ipv6}]:8080/")
    script = "".join(
        f"curl --noproxy '*' -gs -m 5 --interface {address} '{url}'; echo\n"
        for pair in pairs
        for address, url in zip(pair, urls, strict=True)
    )
    seen = lab.outside.run(["sh", "-c", script], timeout_s=60).stdout.split()
    assert [line.removeprefix("::ffff:") for line in seen] == [address for pair in pairs for address in pair]


def test_the_firewall_is_there_but_inactive_and_can_close_both_families(lab, page):
    assert page.ssh("ufw status").stdout == "Status: inactive\n"
    urls = (f"http://{page.ipv4}:8080/", f"http://[{page.ipv6}]:8080/")
    assert [_status(lab, url) for url in urls] == ["200", "200"]
    page.ssh("ufw allow 22/tcp && ufw --force enable")
    try:
        assert [_status(lab, url) for url in urls] == ["000", "000"]
        (v4, v6) = lab.outside.clients(1)[0]
        page.ssh(f"ufw allow proto tcp from {v4} to any port 8080; ufw allow proto tcp from {v6} to any port 8080")
        assert _status_from(lab, v4, urls[0]) == _status_from(lab, v6, urls[1]) == "200"
        assert page.ssh("true").returncode == 0, "a new SSH connection still comes in"
    finally:
        page.ssh("ufw --force reset && rm -f /etc/ufw/*.rules.2*")


def _status_from(lab, address: str, url: str) -> str:
    return lab.outside.run(_curl("--interface", address, "-o", "/dev/null", "-w", "%{http_code}", url)).stdout


@pytest.mark.slow
def test_ports_that_docker_publishes_obey_the_firewall_with_our_rules(lab, ecosystem):
    host = lab["front1"]
    image = next(iter(_references(ecosystem)))
    host.ssh(f"docker run -d --name published -p 9000:8000 {image}")
    url = f"http://{host.ipv4}:9000/status"
    host.ssh("until curl -fs http://127.0.0.1:9000/status; do sleep .1; done", timeout_s=30)
    try:
        host.ssh("ufw allow 22/tcp && ufw --force enable")
        assert _status(lab, url) == "200", "Docker publishes past UFW"
        host.ssh("cp /etc/ufw/after.rules /root/ && cat >> /etc/ufw/after.rules && ufw reload", stdin=_rules())
        assert _status(lab, url) == "000"
        host.ssh("ufw route allow proto tcp from any to any port 8000")
        assert _status(lab, url) == "200"
    finally:
        host.ssh("docker rm -f published; cp /root/after.rules /etc/ufw/; ufw --force reset; systemctl restart docker")


def _rules() -> str:
    return (DATA / "docker_user.rules").read_text()


def _references(ecosystem) -> list[str]:
    return [yaml.safe_load(path.read_text())["artifact"]["image"] for path in sorted(ecosystem.releases.glob("*.yml"))]


def test_hosts_have_no_way_out(lab):
    done = lab["front1"].ssh("ping -c 1 -W 1 192.0.2.1", check=False)
    assert done.returncode == 1
    assert lab["front1"].ssh("curl -s -m 1 http://198.51.100.1/", check=False).returncode != 0


def test_a_frozen_host_takes_connections_and_does_not_answer(lab):
    host = lab["front2"]
    host.freeze()
    try:
        assert host.state() == "frozen"
        with socket.create_connection((host.ipv4, 22), 1) as connection:
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        assert lab.status().state == "partial"
    finally:
        host.thaw()
    assert host.state() == "running"
    assert host.boot_id()


def test_an_unplugged_host_is_silent_and_comes_back(lab):
    host = lab["front2"]
    before = host.boot_id()
    host.unplug()
    try:
        with pytest.raises(OSError):  # noqa: PT011 - no route or a time-out, whichever the kernel says first
            socket.create_connection((host.ipv4, 22), 0.5)
        assert host.state() == "running"
    finally:
        host.plug()
    assert host.boot_id() == before


def test_a_host_comes_back_after_the_plug_was_pulled(lab):
    host = lab["front2"]
    host.ssh("echo kept > /srv/file; sync")
    before = host.boot_id()
    host.kill()
    assert host.state() == "stopped"
    assert host.boot_id() == ""
    host.start()
    host.wait(other_than=before)
    assert host.ssh("cat /srv/file").stdout == "kept\n"


def test_a_frozen_host_can_be_killed(lab):
    host = lab["front2"]
    host.freeze()
    began_s = time.monotonic()
    host.kill()
    assert time.monotonic() - began_s < 5
    assert host.state() == "stopped"
    lab.up(["front2"])
    assert host.state() == "running"


def test_a_host_comes_back_after_poweroff_and_reboot(lab):
    host = lab["front2"]
    before = host.boot_id()
    host.poweroff()
    assert host.state() == "stopped"
    host.start()
    host.wait(other_than=before)
    host.wait_running()
    before = host.boot_id()
    host.reboot()  # it waits for another boot; one question more may go unanswered on a busy machine
    host.wait_running()
    assert host.boot_id() not in ("", before)


def test_a_command_that_fails_says_what_it_said(lab):
    with pytest.raises(Failed, match="front1: exit 3") as failed:
        lab["front1"].ssh("echo out; echo err >&2; exit 3")
    assert failed.value.detail == "out\nerr"


def test_a_unit_that_fails_is_named(lab):
    host = lab["front1"]
    host.ssh("systemd-run -q --unit=doomed false; sleep .2", check=False)
    try:
        with pytest.raises(Failed, match="degraded") as failed:
            host.wait_running()
        assert "doomed.service" in failed.value.detail
    finally:
        host.ssh("systemctl reset-failed")
    host.wait_running()
