"""The lab's parts that need neither root nor hosts."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mcpops.cli.common import Session
from mcpops.cli.lab import lab as lab_command
from mcpops.core.errors import Busy, Failed, Refused, UsageError
from mcpops.lab import cgroups, machine, packages
from mcpops.lab.base import SPEC, BaseSpec, apt_sources, base
from mcpops.lab.files import Places, locked, make_directories, own_directory
from mcpops.lab.host import Host, hosts_file
from mcpops.lab.lab import Lab
from mcpops.lab.layers import Layout
from mcpops.lab.network import Network, Outside, Subnet


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "lab-1", "thirteenchars", "../lab", "lab x"])
def test_a_name_that_cannot_name_an_interface_is_refused(name):
    with pytest.raises(UsageError, match="cannot name a lab"):
        Lab(name)


def test_a_place_that_cannot_name_a_host_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Lab, "check", lambda _: None)
    with pytest.raises(UsageError, match="'_tools' cannot name a lab host"):
        Lab("unit", places=Places(tmp_path, tmp_path)).up(["web", "_tools"])
    assert list(tmp_path.iterdir()) == []


def test_without_root_nothing_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Refused, match="needs root") as refused:
        Lab("unit", places=Places(tmp_path, tmp_path)).up(["web"])
    assert "make demo" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_without_root_nothing_is_taken_down_and_no_directory_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Refused, match="needs root"):
        Lab("unit", places=Places(tmp_path / "cache", tmp_path / "state")).down()
    assert list(tmp_path.iterdir()) == []


def _machine(monkeypatch, system: str = "debian", ipv6: Path = Path("/dev/null")) -> None:
    """Root on a machine with the packages that the lab needs."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": system})
    monkeypatch.setattr(machine, "IPV6", ipv6)
    monkeypatch.setattr(packages, "check", lambda: None)


def test_root_on_debian_with_both_families_can_have_a_lab(monkeypatch):
    _machine(monkeypatch)
    assert machine.lacks() is None
    Lab.check()


def test_another_system_than_debian_cannot_have_a_lab(tmp_path, monkeypatch):
    _machine(monkeypatch, system="ubuntu")
    with pytest.raises(Failed, match="the lab needs Debian") as failed:
        Lab("unit", places=Places(tmp_path, tmp_path)).up(["web"])
    assert "this is ubuntu" in failed.value.detail
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_a_name_cannot_have_a_lab(monkeypatch):
    def none() -> dict[str, str]:
        raise FileNotFoundError("/etc/os-release")

    _machine(monkeypatch)
    monkeypatch.setattr("platform.freedesktop_os_release", none)
    assert str(machine.lacks()) == "the lab needs Debian"


def test_without_ipv6_nothing_is_made(tmp_path, monkeypatch):
    _machine(monkeypatch, ipv6=tmp_path / "ipv6/conf/all/forwarding")
    monkeypatch.setattr(Network, "up", lambda _: pytest.fail("the network was begun"))
    with pytest.raises(Failed, match="IPv6") as failed:
        Lab("unit", places=Places(tmp_path, tmp_path)).up(["web"])
    assert "make demo" in failed.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_missing_program_is_named_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failed, match="mmdebstrap") as failed:
        packages.check()
    assert "apt-get install --no-install-recommends" in failed.value.hint
    assert "systemd-container" in failed.value.hint


def test_the_package_list_is_printed_for_apt():
    done = subprocess.run(
        [sys.executable, "-m", "mcpops.lab.packages"], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == list(packages.APT_PACKAGES)
    assert {"mmdebstrap", "skopeo"} <= set(done.stdout.split())


def test_both_families_of_a_subnet_show_the_same_digits():
    assert (Subnet(7).ipv4(11), Subnet(7).ipv6(11)) == ("10.99.7.11", "fd99:7::11")
    assert (Subnet(0).ipv4(1), Subnet(0).ipv6(1)) == ("10.99.0.1", "fd99::1")


@pytest.mark.parametrize("count", [0, 151])
def test_too_many_client_addresses_are_refused(count):
    with pytest.raises(ValueError, match="1 to 150"):
        Outside(Network("unit"), Subnet(0)).clients(count)


def test_interface_names_fit_the_kernel():
    longest = Network("a23456789012")
    assert len(longest.bridge) == len(longest._outside_port) == 15


def test_a_hosts_file_has_every_address_of_every_host():
    text = hosts_file({"web": ("10.99.0.11", "fd99::11")})
    assert text.splitlines()[-2:] == ["10.99.0.11 web", "fd99::11 web"]


def test_places_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("LAB_CACHE", "/srv/cache")
    monkeypatch.setenv("LAB_STATE", "/srv/state")
    assert Places.from_environment() == Places(Path("/srv/cache"), Path("/srv/state"))


def test_a_lock_that_is_held_ends_in_busy(tmp_path):
    lock = tmp_path / "lock"
    with (
        locked(lock, what="the thing", timeout_s=1),
        pytest.raises(Busy, match="the thing is in use"),
        locked(lock, what="the thing", timeout_s=0),
    ):
        pass
    with locked(lock, what="the thing", timeout_s=0):
        pass


def _planted(tmp_path: Path, how: str) -> Path:
    """What another user of this machine can put where root's directory shall be."""
    place = tmp_path / "state"
    if how == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "theirs")
    elif how == "dangling link":
        place.symlink_to(tmp_path / "nowhere")
    elif how == "file":
        place.touch(0o600)
    else:
        place.mkdir()
        place.chmod(int(how, 8))
    return place


@pytest.mark.parametrize("how", ["link", "dangling link", "file", "0770", "0702", "1777"])
def test_a_directory_that_others_made_or_can_write_to_is_refused(tmp_path, how):
    place = _planted(tmp_path, how)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Refused, match=str(place)) as refused, locked(place / "lock", what="it", timeout_s=0):
        pass
    assert refused.value.detail
    assert str(place) in refused.value.hint
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    mine = os.geteuid()
    own_directory(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(Refused) as refused:
        own_directory(tmp_path)
    assert refused.value.detail == f"it belongs to the user {mine}, not to {mine + 1}"


def test_a_lock_that_is_a_link_is_refused_and_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="is a link"), locked(tmp_path / "lock", what="it", timeout_s=0):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_the_directory_of_a_lock_is_made_private(tmp_path):
    mask = os.umask(0)
    try:
        with locked(tmp_path / "state/lock", what="it", timeout_s=0):
            pass
    finally:
        os.umask(mask)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state/lock").stat().st_mode & 0o777 == 0o600


def test_a_record_that_others_can_write_is_not_read(tmp_path):
    state = _planted(tmp_path, "0777")
    (state / "unit").mkdir()
    (state / "unit/lab.json").write_text('{"base": "/theirs", "subnet": 1, "hosts": {"web": 11}}')
    lab = Lab("unit", places=Places(tmp_path, state))
    with pytest.raises(Refused):
        lab.hosts  # noqa: B018 - reading is what is tested
    state.chmod(0o700)
    assert list(lab.hosts) == ["web"]


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=lambda mask: f"umask{mask:03o}")
def umask(request) -> Iterator[int]:
    """What the person's shell has set."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def host(tmp_path, monkeypatch) -> Host:
    """A host's files, without cgroups of the machine."""
    monkeypatch.setattr(cgroups, "make", lambda *_: [])
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA lab\n")
    return Host("unit", "web", 11, Subnet(0), tmp_path / "base", tmp_path)


def test_a_host_has_the_same_modes_under_every_umask(host, umask):
    host.create({"web": ("10.99.0.11", "fd99::11")}, {"/etc/docker/certs.d/it/ca.crt": ("ca", 0o644)})
    found = {str(path.relative_to(host.directory)): path.stat().st_mode & 0o7777 for path in host.directory.rglob("*")}
    private = {
        "upper/root": 0o700, "upper/root/.ssh": 0o700, "upper/root/.ssh/authorized_keys": 0o600,
        "upper/etc/ssh/ssh_host_ed25519_key": 0o600, "upper/etc/machine-id": 0o444,
    }  # fmt: skip
    assert host.directory.stat().st_mode & 0o7777 == 0o755
    assert {"upper", "upper/etc", "docker", "upper/etc/docker/certs.d", "upper/etc/hosts"} <= set(found)
    assert found == {
        path: private.get(path, 0o755 if (host.directory / path).is_dir() else 0o644) for path in found
    }  # fmt: skip


def test_a_host_boots_with_the_umask_of_a_system(host, umask, tmp_path, monkeypatch):
    make_directories(host.directory)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/setsid").write_text("#!/bin/sh\numask\n")
    (tmp_path / "bin/setsid").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    host.start()
    assert (host.directory / "console.log").read_text() == "0022\n"


def test_a_base_has_the_same_modes_under_every_umask(umask, tmp_path, monkeypatch):
    monkeypatch.setattr(cgroups, "inside", lambda _, argv: argv)
    program = tmp_path / "program"
    program.touch()
    program.chmod(0o755)
    build = ("/bin/sh", "-c", 'mkdir -p "$2/usr" && umask > "$2/umask"')
    spec = BaseSpec(
        "bookworm", build, tmp_path / "program", (), {"/usr/libexec/docker/compose": tmp_path / "program"}, ""
    )
    made = base(tmp_path / "cache", spec, lab="unit", say=lambda _: None)
    assert (made / "umask").read_text() == "0022\n"
    directories = [made, *(path for path in made.rglob("*") if path.is_dir())]
    assert [path.stat().st_mode & 0o777 for path in directories] == [0o755] * 4
    assert (made / "usr/libexec/docker/compose").stat().st_mode & 0o777 == 0o755


def test_the_machines_own_sources_are_used_for_another_release(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"VERSION_CODENAME": "bookworm"})
    sources = tmp_path / "debian.sources"
    sources.write_text("URIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n")
    assert "Suites: trixie trixie-updates" in apt_sources("trixie", sources)


def test_the_base_has_what_the_roles_install():
    text = SPEC.read_text()
    for package in ("ufw", "docker.io", "openssh-server", "haproxy", "docker-registry"):
        assert f'"{package}"' in text


def _tree(root: Path, stamp: int) -> Path:
    (root / "sub").mkdir(parents=True)
    (root / "sub/b.py").write_text("b = 1\n")
    (root / "a.sh").write_text("#!/bin/sh\n")
    (root / "a.sh").chmod(0o700)
    os.utime(root / "a.sh", (stamp, stamp))
    return root


def test_equal_files_make_an_image_of_equal_digest(tmp_path):
    digests = []
    for turn in (1, 2):
        layout = Layout(tmp_path / f"layout{turn}")
        layer = layout.add_tree(_tree(tmp_path / f"tree{turn}", stamp=turn), "/opt/app")
        digests.append(layout.add_image("1", [layer], {"User": "10001"}))
    assert digests[0] == digests[1]


def test_another_byte_makes_another_digest(tmp_path):
    layout = Layout(tmp_path / "layout")
    one = layout.add_tree(_tree(tmp_path / "one", stamp=1), "/opt/app")
    (tmp_path / "one/sub/b.py").write_text("b = 2\n")
    two = layout.add_tree(tmp_path / "one", "/opt/app")
    assert layout.add_image("1", [one], {}) != layout.add_image("2", [two], {})
    index = json.loads((tmp_path / "layout/index.json").read_text())
    assert [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]] == ["1", "2"]


def test_files_of_a_layer_belong_to_root(tmp_path):
    layout = Layout(tmp_path / "layout")
    layer = layout.add_tree(_tree(tmp_path / "tree", stamp=1), "/opt/app")
    blob = tmp_path / "layout/blobs/sha256" / layer.digest.removeprefix("sha256:")
    with tarfile.open(fileobj=io.BytesIO(blob.read_bytes()), mode="r:gz") as tar:
        found = {info.name: (info.uid, info.mode) for info in tar}
    assert found == {"opt/app/a.sh": (0, 0o755), "opt/app/sub": (0, 0o755), "opt/app/sub/b.py": (0, 0o644)}


def test_status_of_a_lab_that_is_down(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_STATE", str(tmp_path))
    (tmp_path / "inventories").mkdir()
    session = Session(project=tmp_path)
    done = CliRunner().invoke(lab_command, ["status", "--name", "nosuch", "--json"], obj=session)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["state"], found["hosts"], found["inventory"]) == ("down", [], None)
