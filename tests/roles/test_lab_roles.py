"""The roles on two real hosts, by plain ansible-playbook and the checkout's ansible.cfg: no mcpops command takes part.

One life in order: bare hosts, setup, a deploy, the roles mcp_server and blue_green each alone, another deploy, undo.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
import yaml

from mcpops.lab.ecosystem import FRONTS
from tests.lab.site import FIRST, NEXT, ROOT, Load, Site

pytestmark = pytest.mark.lab
SHORT = {"blue_green_bake_s": 1, "blue_green_drain_s": 0}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Bare hosts; nothing is installed yet."""
    made = Site("labroles", tmp_path_factory.mktemp("site"))
    made.up()
    yield made
    made.down()


def playbook(site: Site, name: str, *arguments: str, **variables: object) -> int:
    """Run one of the project's playbooks; return how many tasks changed something, over all fronts."""
    code, said = site.play(str(ROOT / f"playbooks/{name}.yml"), *arguments, **variables)
    assert code == 0, said[-6000:]
    return changed(said)


def role(site: Site, name: str, given: dict[str, object], tasks_from: str = "main", *arguments: str) -> tuple[int, str]:
    """Run some tasks of one role; return how many changed something, and what the role's probe told."""
    tasks = [{"ansible.builtin.import_role": {"name": name, "tasks_from": tasks_from}}]
    path = site.home / "role.yml"
    path.write_text(yaml.safe_dump([{"hosts": "fronts", "gather_facts": False, "tasks": tasks}]))
    code, said = site.play(str(path), *arguments, **given)
    assert code == 0, said[-6000:]
    found = re.search(r'"probe": "(\w+)"', said)
    return changed(said), found[1] if found else ""


def next_in_green(site: Site) -> dict[str, object]:
    """What the roles of a deploy are told, here by hand."""
    release = site.ecosystem.releases / f"{NEXT}.yml"
    return {"release_file": str(release), "slot": "green", "active_slot": "blue", **SHORT}


def changed(said: str) -> int:
    counts = [int(count) for count in re.findall(r"changed=(\d+)", said)]
    assert len(counts) >= len(FRONTS), said[-3000:]
    return sum(counts)


@pytest.mark.parametrize("name", ["setup", "deploy", "teardown"])
def test_the_syntax_of_the_playbooks(site: Site, name: str) -> None:
    code, said = site.play(str(ROOT / f"playbooks/{name}.yml"), "--syntax-check")
    assert code == 0, said


def test_setup_on_bare_hosts(site: Site) -> None:
    assert playbook(site, "setup", "--check") > 0, "a check on bare hosts predicts changes"
    for front in FRONTS:
        assert site.lab[front].ssh("ls -d /var/lib/mcpops /etc/mcpops /etc/haproxy", check=False).stdout == ""

    assert playbook(site, "setup") > 0
    for front in FRONTS:
        leave_half_done(site, front)
    with Load(site.lab) as load:
        assert playbook(site, "setup") == len(FRONTS), "a second run changes nothing, but for what was left half-done"
        assert all(site.front(front)["in_sync"] for front in FRONTS)
        assert playbook(site, "setup", "--check") == 0
    assert {row.fault for row in load.on(*FRONTS)} == {"5xx"}, "no release yet: 503 from every front in both families"


def leave_half_done(site: Site, front: str) -> None:
    """Let the running proxy hold what its files do not say, as a command that failed half-way does."""
    command = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/var/lib/mcpops/time/admin.sock'); "
        "s.sendall(b'add map /var/lib/mcpops/time/preview.map left green\\n'); s.recv(99)"
    )
    site.lab[front].ssh(f'python3 -c "{command}"')
    assert site.front(front)["in_sync"] is False


def test_a_first_deploy_by_plain_ansible(site: Site) -> None:
    release = site.ecosystem.releases / f"{FIRST}.yml"
    assert playbook(site, "deploy", release_file=str(release), **SHORT) > 0
    assert site.serving() == {("blue", FIRST)}


def test_mcp_server_alone(site: Site) -> None:
    given = next_in_green(site)
    assert role(site, "mcp_server", given, "probe") == (0, "not_done")
    assert role(site, "mcp_server", given, "main", "--check")[0] == len(FRONTS)
    assert site.front("front1")["slots"]["green"]["release"] is None, "a check changed nothing"

    assert role(site, "mcp_server", given)[0] == len(FRONTS)
    assert role(site, "mcp_server", given)[0] == 0, "a second run changes nothing"
    assert role(site, "mcp_server", given, "probe") == (0, "done")
    role(site, "mcp_server", given, "verify")
    assert site.serving() == {("blue", FIRST)}

    site.hostside("front1", "slot", "stop", "green", run="ansible", fence=int(time.time()) * 1000)
    assert role(site, "mcp_server", given, "probe") == (0, "partial"), "on one front of two it does not run"
    assert role(site, "mcp_server", given, "undo")[0] == len(FRONTS)
    assert role(site, "mcp_server", given, "probe") == (0, "not_done")


def test_blue_green_alone(site: Site) -> None:
    given = next_in_green(site)
    role(site, "mcp_server", given)
    with Load(site.lab) as load:
        assert role(site, "blue_green", given, "probe") == (0, "not_done")
        assert role(site, "blue_green", given, "main", "--check")[0] > 0
        assert site.serving() == {("blue", FIRST)}

        assert role(site, "blue_green", given)[0] > 0
        role(site, "blue_green", given, "bake")
        assert site.serving() == {("green", NEXT)}
        assert role(site, "blue_green", given)[0] == 0, "a second run changes nothing"
        role(site, "blue_green", given, "verify")
        assert role(site, "blue_green", given, "probe") == (0, "done")

        assert role(site, "blue_green", given, "undo")[0] > 0
        assert role(site, "blue_green", given, "probe") == (0, "not_done")
    assert load.failed() == []
    assert site.serving() == {("blue", FIRST)}


@pytest.mark.slow
def test_another_deploy_by_plain_ansible_under_traffic(site: Site) -> None:
    with Load(site.lab) as load:
        release = site.ecosystem.releases / f"{NEXT}.yml"
        playbook(site, "deploy", release_file=str(release), **SHORT)
    assert load.failed() == []
    assert site.serving() == {("green", NEXT)}
    assert load.slots_at_the_end() == {"green"}


@pytest.mark.slow
def test_undo_of_front_and_hostside_keeps_what_was_in_force(site: Site) -> None:
    before = [site.front(front)["generation"] for front in FRONTS]
    role(site, "front", {}, "undo")
    assert role(site, "front", {}, "probe")[1] == "not_done"
    role(site, "hostside", {}, "undo")
    assert role(site, "hostside", {}, "probe")[1] == "not_done"
    for front in FRONTS:
        said = site.lab[front].ssh("systemctl is-active mcpops-front-time; ls /var/lib/mcpops/time", check=False).stdout
        assert said.splitlines()[0] == "inactive"
        assert {"active.map", "history.jsonl"} <= set(said.split())

    assert playbook(site, "setup") > 0
    assert site.serving() == {("green", NEXT)}
    assert [site.front(front)["generation"] for front in FRONTS] == before
