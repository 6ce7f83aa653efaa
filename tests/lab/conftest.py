"""Fixtures of the lab's own tests. They use labs of other names than `lab`, so a person's lab stays."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcpops.lab import cgroups
from mcpops.lab.ecosystem import Ecosystem
from mcpops.lab.lab import Lab, to_stderr
from tests.lab.site import FIRST, QUICK, Site


@pytest.fixture
def robust() -> Iterator[Lab]:
    """A lab for tests that build and destroy it."""
    lab = Lab("robust")
    lab.down()
    yield lab
    lab.down()


@pytest.fixture
def left_of() -> Callable[[Lab], list[str]]:
    """What on the machine still belongs to a lab."""
    return _left_of


def _left_of(lab: Lab) -> list[str]:
    found = [f"cgroup {top}" for top in cgroups.find(lab.name)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if f"{lab.directory}/" in line or f"lab-{lab.name}-out" in line]
    links = json.loads(subprocess.run(["ip", "-json", "link"], capture_output=True, check=True).stdout)
    names = [name for link in links for name in (link["ifname"], *link.get("altnames", []))]
    own = (lab.network.bridge, f"vo-{lab.name}")
    found += [f"interface {name}" for name in names if name in own or name.startswith(f"vb-{lab.name}-")]
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    found += [f"namespace {name}" for name in namespaces if name == f"lab-{lab.name}-out"]
    found += [f"file {path}" for path in Path("/run/netns").glob(f"lab-{lab.name}-*")]
    found += [f"directory {path}" for path in Path("/run/systemd/nspawn").rglob(f"{lab.name}-*")]
    found += [f"state {lab.directory}"] if lab.directory.exists() else []
    found += [f"partial build {path}" for path in lab.places.cache.glob("part-*")]
    return found + _processes_of(lab)


def _processes_of(lab: Lab) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        marks = (f"--machine={lab.name}-", f"{lab.directory}/", f"{lab.places.cache}/part-")
        if any(mark in command for mark in marks) or f"LAB_HOST={lab.directory}/" in environment:
            found.append(f"process {entry.name} {command[:80]}")
    return found


@pytest.fixture(scope="session")
def ecosystem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ecosystem]:
    """The whole lab under another name, with its environment in a directory of its own."""
    made = Ecosystem(Lab("labtest"), tmp_path_factory.mktemp("project"), to_stderr)
    made.down()
    made.up()
    yield made
    made.down()


@pytest.fixture(scope="session")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two fronts of a lab of their own, on which the first release serves.

    MCPOPS_TEST_SITE=DIR keeps it in DIR, up, for the next session: that saves a minute while tests are written.
    """
    kept = os.environ.get("MCPOPS_TEST_SITE")
    made = Site("labkept" if kept else "labops", Path(kept) if kept else tmp_path_factory.mktemp("site"))
    if not (kept and made.lab.status().state == "up"):
        made.up()
        for argv in (("run", "setup"), ("deploy", FIRST, *QUICK)):
            ended = made.run(*argv, timeout_s=180)
            assert ended.code == 0, ended.error
    if not made.agreed():
        made.mend()
    yield made
    if not kept:
        made.down()


@pytest.fixture
def site(_site: Site) -> Iterator[Site]:
    """The site, with both fronts on one release before and after each test, also one that failed."""
    yield _site
    if not _site.agreed():
        _site.mend()
        assert _site.agreed(), "the site could not be mended"
