"""The same results with other Pythons on the host than the system's: every version that a server may meet there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mcpops.lab.host import Host
from mcpops.lab.lab import Lab, to_stderr
from tests.conftest import ALLOWED
from tests.lab.warm.compare import Record, compare, load, report
from tests.lab.warm.meant import not_meant
from tests.lab.warm.rules import Rules
from tests.lab.warm.stand import Ended, Stand, Target

pytestmark = pytest.mark.lab

WAYS = ("ssh", "warm")
VERSIONS = ("3.9", "3.10", "3.12", "3.13")
# What no module imports, or that is there twice: half of the size, and a host's disk is memory.
LEFT_OUT = ("test", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "config-*", "site-packages/*")
LEFT_OUT_FILES = ("*.opt-1.pyc", "*.opt-2.pyc", "*.a")


def installed() -> dict[str, Path]:
    """Return the newest interpreter of each version that pyenv has here."""
    at = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in VERSIONS:
        patches = [path for path in at.glob(f"{version}.*") if re.fullmatch(r"\d+", path.name.rpartition(".")[2])]
        if patches:
            found[version] = max(patches, key=lambda path: int(path.name.rpartition(".")[2]))
    return found


def name(version: str) -> str:
    """Return the name of the target with an interpreter of this version."""
    return f"py{version.replace('.', '')}"


def send(host: Host, home: Path) -> None:
    """Put an interpreter where it is here: its own paths are built in."""
    excluded = [f"--exclude={pattern}" for pattern in LEFT_OUT_FILES]
    excluded += [f"--exclude={home}/lib/python*/{pattern}" for pattern in LEFT_OUT]
    program = next(home.glob("bin/python3.*[0-9]"))
    tar = ["tar", "-P", "-c", *excluded, str(home / "lib"), str(program), str(home / "bin/python3")]
    ssh = ["ssh", "-F", str(host.lab_directory / "ssh_config"), host.name, "tar", "-P", "-x"]
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as packing:
        subprocess.run(ssh, stdin=packing.stdout, check=True, timeout=120)
    assert packing.returncode == 0
    host.ssh(f"{home}/bin/python3 -c 'import ctypes, ssl, hashlib, multiprocessing, zipfile'")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """The plays for other Pythons both ways: a twin for each way, on it a target for each interpreter."""
    homes = installed()
    if not homes:
        pytest.skip(f"{ALLOWED}Python {', '.join(VERSIONS)} of pyenv")
    stand = Stand(Lab("warmpy", say=to_stderr), tmp_path_factory.mktemp("pythons"))
    try:
        stand.up(f"py-{way}" for way in WAYS)
        for way in WAYS:
            # Otherwise whichever target is first says that it had to make it.
            stand.lab[f"py-{way}"].ssh("mkdir /root/.ansible && mkdir -m 0700 /root/.ansible/tmp")
            for home in homes.values():
                send(stand.lab[f"py-{way}"], home)
        with ThreadPoolExecutor() as pool:
            yield dict(zip(WAYS, pool.map(lambda way: _run(stand, way, homes), WAYS), strict=True))
    finally:
        stand.down()


def _run(stand: Stand, way: str, homes: dict[str, Path]) -> Ended:
    machine = stand.lab[f"py-{way}"]
    targets = [Target(name(version), machine, "root", f"{home}/bin/python3") for version, home in homes.items()]
    return stand.run(way, targets, {"pythons": [target.name for target in targets]}, "pythons.yml", "--diff")


def _records(ended: Ended, version: str) -> list[Record]:
    return [record for record in load(ended.results) if record.host == name(version)]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_task_has_the_same_result(runs, version):
    missing = [other for other in VERSIONS if other not in installed()]
    if version in missing:
        pytest.skip(f"{ALLOWED}Python {', '.join(missing)} of pyenv")
    assert [runs[way].code for way in WAYS] == [0, 0]
    one, other = (_records(runs[way], version) for way in WAYS)
    assert len({(record.task, str(record.item)) for record in one}) >= 35
    found = not_meant(compare(one, other, (Rules(runs["ssh"].names), Rules(runs["warm"].names))))
    assert not found, f"{len(found)} fields differ between ssh (one) and warm (other):\n{report(found)}"


@pytest.mark.parametrize("version", VERSIONS)
def test_it_was_this_version_and_it_was_warm(runs, version):
    if version not in installed():
        pytest.skip(f"{ALLOWED}Python {version} of pyenv")
    for way in WAYS:
        said = [
            record.result["interpreter"] for record in _records(runs[way], version) if "interpreter" in record.result
        ]
        assert len(said) >= 3
        assert {tuple(one["version"].split(".")[:2]) for one in said} == {tuple(version.split("."))}
    warm = [row for row in runs["warm"].log if row["way"] == "warm"]
    assert len(warm) >= 0.7 * len(runs["warm"].log)
