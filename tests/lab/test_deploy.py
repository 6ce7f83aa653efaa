"""`mcpops deploy` on two real fronts: containers by digest, traffic from outside by IPv4 and IPv6, and bad days."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from mcpops.lab.ecosystem import FRONTS
from tests.lab.site import FIRST, NEXT, QUICK, Load, Site, wait_for

# A session of tests begins with a setup and a deploy, within the first test's time.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
Fault = Callable[[Site, str, str], AbstractContextManager[str]]


def other(release: str | None) -> str:
    return NEXT if release == FIRST else FIRST


def serving(site: Site) -> tuple[str, str | None]:
    """The slot and the release that both fronts serve."""
    (one,) = site.serving()
    return one


def test_no_login_at_the_registry_on_one_front(site: Site) -> None:
    """The first test: once pulled, dockerd may bring an image back from its own store, without asking the registry."""
    before = serving(site)
    name = other(before[1])
    host = site.lab["front2"]
    running = running_images(site, "front1")
    idle = "green" if before[0] == "blue" else "blue"
    fence = site.fence("front2") + 1
    assert site.hostside("front2", "slot", "stop", idle, run="test", fence=fence)[0] == 0
    host.ssh(f"docker image rm -f {site.release_file(name)['artifact']['image']}", check=False)
    host.ssh("mv /root/.docker/config.json /root/.docker/aside")

    try:
        with Load(site.lab) as load:
            ended = site.run("deploy", name, *QUICK)
    finally:
        host.ssh("mv /root/.docker/aside /root/.docker/config.json")

    assert ended.code == 5, ended.error
    assert "front2" in ended.out["reason"]
    assert "no basic auth credentials" in ended.out["reason"]
    assert "logged in to the registry" in ended.out["reason"]
    assert load.failed() == []
    assert serving(site) == before
    assert running_images(site, "front1") == running, "the good front has what it had before"
    assert site.front("front2")["slots"][idle]["release"] is None, "the image is gone, and so the slot is empty"


def test_a_deploy_on_two_fronts_under_traffic(site: Site) -> None:
    slot, release = serving(site)
    wanted = other(release)

    with Load(site.lab) as load:
        ended = site.run("deploy", "--blue-green", wanted, *QUICK)

    assert (ended.code, load.failed()) == (0, []), ended.error
    now, served = serving(site)
    assert (now != slot, served) == (True, wanted)
    assert load.slots_at_the_end() == {now}, "as the header says outside"
    assert {row.slot for row in load.on(*FRONTS)} == {slot, now}
    assert ended.out["cutover"]["hosts"] == 2
    assert ended.out["cutover"]["intent_to_switch_ms"] < 2000
    assert ended.out["record"]["verified"] is True
    image = site.release_file(wanted)["artifact"]["image"]
    for front in FRONTS:
        assert running_images(site, front) == [image], "by digest, and the old one is retired"
        # The load is most of what the old slot served: it got nothing that was sent after the switch.
    assert last_on(load, slot) < first_alone_on(load, now)


def running_images(site: Site, front: str) -> list[str]:
    ids = "docker ps --quiet --filter label=mcpops.release"
    return site.lab[front].ssh(f"docker inspect -f '{{{{.Config.Image}}}}' $({ids})").stdout.split()


def last_on(load: Load, slot: str) -> int:
    return max(row.started_at_ns for row in load.requests if row.slot == slot)


def first_alone_on(load: Load, slot: str) -> int:
    """When the last front had switched: the latest of the fronts' first requests on the slot, a second of grace."""
    firsts = [min(row.started_at_ns for row in load.on(front) if row.slot == slot) for front in FRONTS]
    return max(firsts) + 1_000_000_000


def bad_release(site: Site, case: str, like: str) -> tuple[str, str, str]:
    """Write a bad release; return its name, what must be said, and the way out that must be named."""
    if case == "wrong digest":
        image = site.release_file(like)["artifact"]["image"]
        wrong = {"kind": "image", "image": image[:-8] + "00000000"}
        return site.write_release("wrong-digest", like, artifact=wrong), "manifest unknown", "digest that was pushed"
    command = ["python3", "-c", "import sys; sys.exit('no licence key')"]
    return site.write_release("not-starting", like, command=command), "no licence key", "the release's own log"


@pytest.mark.parametrize("case", ["wrong digest", "does not start"])
def test_a_bad_release_leaves_the_old_one_serving(site: Site, case: str) -> None:
    before = serving(site)
    name, said, way_out = bad_release(site, case, NEXT)

    with Load(site.lab) as load:
        ended = site.run("deploy", name, *QUICK)

    assert ended.code == 5, ended.error
    assert ended.out["state"] == "rolled_back"
    assert said in ended.out["reason"]
    assert way_out in ended.out["reason"]
    assert any(front in ended.out["reason"] for front in FRONTS)
    assert load.failed() == []
    assert load.slots_at_the_end() == {before[0]}
    assert serving(site) == before


SLOTS = "/var/lib/mcpops/time/slots"


@contextmanager
def port_in_use(site: Site, front: str, slot: str) -> Iterator[str]:
    """Let a stranger listen where the slot would; yield what a deploy must say of it."""
    port = site.service(front)["slots"][slot]["port"]
    host = site.lab[front]
    host.ssh(f"systemd-run --quiet --collect --unit=stranger python3 -m http.server --bind 127.0.0.1 {port}")

    def listens() -> str:
        return host.ssh(f"ss -Hltn sport = {port}").stdout.strip()

    try:
        wait_for("the stranger listens", listens)
        yield f"127.0.0.1:{port} is in use"
    finally:
        host.ssh("systemctl stop stranger")


@contextmanager
def full_disk(site: Site, front: str, slot: str) -> Iterator[str]:
    """Put the slot's directory on a file system that is full; yield what a deploy must say of it."""
    host, directory = site.lab[front], f"{SLOTS}/{slot}"
    host.ssh(f"mkdir -p {directory} && mount -t tmpfs -o size=8k,mode=0700 full {directory}")
    try:
        host.ssh(f"dd if=/dev/zero of={directory}/filler bs=4k 2>/dev/null || true")
        yield "No space left on device"
    finally:
        host.ssh(f"umount --lazy {directory}")


@pytest.mark.parametrize("fault", [port_in_use, full_disk], ids=["port in use", "full disk"])
def test_a_front_that_cannot_take_the_release_is_named(site: Site, fault: Fault) -> None:
    slot, release = serving(site)
    idle = "green" if slot == "blue" else "blue"
    before = site.front("front1")["slots"][idle]["release"]
    # An image that either slot may hold already would need no new file and no start.
    name = site.write_release(f"time-{fault.__name__.replace('_', '-')}", NEXT, start_timeout_s=29)
    assert site.hostside("front2", "slot", "stop", idle, run="test", fence=site.fence("front2") + 1)[0] == 0

    with fault(site, "front2", idle) as said, Load(site.lab) as load:
        ended = site.run("deploy", name, *QUICK)

    assert ended.code == 5, ended.error
    assert "front2" in ended.out["reason"]
    assert said in ended.out["reason"]
    assert (load.failed(), load.slots_at_the_end()) == ([], {slot})
    assert serving(site) == (slot, release)
    assert site.front("front1")["slots"][idle]["release"] == before, "the good front has what it had before"


def test_a_front_that_is_frozen_stops_the_deploy_before_anything_changes(site: Site) -> None:
    before = serving(site)

    with site.without("front2", "frozen"), Load(site.lab, timeout_s=2) as load:
        began_s = time.monotonic()
        ended = site.run("deploy", other(before[1]), *QUICK)
        took_s = time.monotonic() - began_s

    assert ended.code == 3, ended.error
    assert "front2" in ended.out["reason"]
    assert "can be reached over ssh" in ended.out["reason"]
    assert took_s < 45
    assert load.failed("front1") == []
    assert load.failed("front2") != [], "the load did go there"
    assert serving(site) == before


def test_a_front_that_goes_away_in_the_bake_is_told_and_sync_brings_it_along(site: Site) -> None:
    before = serving(site)
    process = site.deploy_until_bake(other(before[1]))

    with site.without("front2", "unplugged"), Load(site.lab, timeout_s=2) as load:
        ended = site.end(process)

    # The undo could not be proved on front2: whoever is on call decides, and is told so.
    assert ended.code == 7, ended.error
    assert "front2" in ended.out["reason"]
    assert load.failed("front1") == []
    assert site.serving("front1") == {before}
    assert site.run("runs", "abandon", ended.out["id"], "--yes").code == 0
    assert site.run("status").code == 3, "front2 alone is on the new release"
    repaired = site.run("rollback", "--sync")
    assert repaired.code == 0, repaired.error
    assert serving(site) == before
    assert site.run("status").code == 0


@pytest.mark.parametrize("how", ["reboot", "pulled plug"])
def test_a_front_comes_back_from_a_boot_with_the_slot_of_its_files(site: Site, how: str) -> None:
    before = serving(site)
    host, image = site.lab["front2"], running_images(site, "front2")
    if how == "reboot":
        host.reboot()
    else:
        boot = host.boot_id()
        host.kill()
        host.start()
        host.wait(other_than=boot)

    wait_for("the container runs again", lambda: running_images(site, "front2") == image, 60)
    wait_for("the proxy sees it up", lambda: site.front("front2")["slots"][before[0]]["healthy"], 30)
    with Load(site.lab) as load:
        status = site.run("status")

    assert status.code == 0, status.error
    assert status.out["agreed"] is True
    assert (load.failed(), load.slots_at_the_end()) == ([], {before[0]})
    assert serving(site) == before


def test_a_controller_of_yesterday_is_refused_by_every_front(site: Site) -> None:
    before = serving(site)
    stale = {front: site.front(front)["fence"]["fence"] for front in FRONTS}
    assert site.run("rollback", "--to", other(before[1])).code == 0
    after, states = serving(site), {front: site.front(front) for front in FRONTS}
    assert after != before

    for front in FRONTS:
        generation = states[front]["generation"]
        words = [f"--slot={before[0]}", f"--generation={generation + 1}", f"--expect={generation}"]
        for argv in (["front", "activate", *words], ["front", "close", after[0]], ["slot", "stop", before[0]]):
            code, said = site.hostside(front, *argv, run="yesterday", fence=stale[front])
            assert (code, said["error"]["name"]) == (8, "fenced"), said
            assert json.dumps(said).count(str(states[front]["fence"]["fence"])) >= 1, "it says who is in charge"

    assert serving(site) == after
    assert {front: site.front(front)["fence"] for front in FRONTS} == {f: states[f]["fence"] for f in FRONTS}
