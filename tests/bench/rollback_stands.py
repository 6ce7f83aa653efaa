"""Where rollbacks are measured: fronts with a bad release active and the good one running in the other slot.

`local`: the embedded default, set up and deployed by mcpops itself. `ssh`: two fronts, each behind an OpenSSH server of
this user. `lab`: the fronts of this checkout's lab, which must hold two verified releases; only when asked for.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demo.http1 import Endpoint
from demo.traffic import Shape, get, loopback_sources, ping_stateless, ping_without_session
from mcpops.model.target import Target
from mcpops.remote.targets import load_targets
from mcpops.remote.transport import TRANSPORTS
from tests.bench.stand import REPOSITORY
from tests.e2e.stand import NEXT, QUICK, Project
from tests.integration.rollback_stand import TwoFronts

NAME, LAB_NAME = "time.local.test", "time.lab.test"


@dataclass(frozen=True)
class Front:
    """One front: how to ask its hostside, and where its clients ask."""

    target: Target
    endpoint: Endpoint

    def ask(self, *commands: tuple[str, ...]) -> dict[str, Any]:
        """Commands of hostside over one channel; the output of the last. AssertionError when one says no."""
        output: dict[str, Any] = {}
        with closing(TRANSPORTS[self.target.connection].open(self.target, 10)) as channel:
            for words in commands:
                answer = channel.call(words, 60)
                assert answer.exit == 0, (self.target.name, words, answer.output)
                output = answer.output
        return output

    def send_to(self, slot: str) -> None:
        """Send new requests to a slot, both running and open, as some deploy did a while ago."""
        status = self.ask(("status",))
        right = ("--run", "bench", "--fence", str(int(status["fence"]["fence"]) + 1))
        here = int(status["generation"])
        ready = [("slot", "start", name) for name, row in status["slots"].items() if not row["running"]]
        ready += [("front", "open", name) for name, row in status["slots"].items() if row["state"] != "open"]
        words = ("--slot", slot, "--expect", str(here), "--generation", str(here + 1), "--healthy-wait-s", "20")
        activate = ("front", "activate", *words, "--reason", "bench: a bad release")
        self.ask(*((*right, *words) for words in (*ready, activate)))


@dataclass(frozen=True)
class Stand:
    """What a rollback is typed for. `inventory` is what the playbook gets; `shapes` are requests that must succeed."""

    name: str
    project: Path
    environment: str
    inventory: Path
    fronts: tuple[Front, ...]
    bad: str
    shapes: tuple[Shape, ...]
    sources: tuple[str, ...] = loopback_sources(10)

    @property
    def good(self) -> str:
        """The slot that holds the release to go back to."""
        return "green" if self.bad == "blue" else "blue"


@contextmanager
def local(port: int) -> Iterator[Stand]:
    """The embedded default in a project of its own, after two deploys."""
    project = Project(Path(tempfile.mkdtemp(prefix="mb-")), port)
    try:
        project.up()
        ended = project.run("deploy", NEXT, *QUICK)
        assert ended.code == 0, ended.error
        endpoint = Endpoint.of("127.0.0.1", port, NAME, project.state / "ca/ca.crt")
        fronts = tuple(Front(target, endpoint) for target in saved_targets(project.state))
        inventory, shapes = project.home / "inventories/local", (get("/status"), ping_without_session())
        yield Stand("embedded default", project.home, "local", inventory, fronts, project.front()["active"], shapes)
    finally:
        project.down()


@contextmanager
def ssh(port: int) -> Iterator[Stand]:
    """Two fronts with tiny servers, behind an sshd of this user."""
    with tempfile.TemporaryDirectory(prefix="mb-") as directory, TwoFronts(Path(directory), port, "ssh") as two:
        inventory = Path(directory) / "inventory.json"
        hosts = {target.name: variables(target) for target in two.targets}
        inventory.write_text(json.dumps({"fronts": {"hosts": hosts}}))
        stands = two.fronts.values()
        endpoints = [Endpoint.of("127.0.0.1", stand.port, NAME, stand.state / "ca.pem") for stand in stands]
        fronts = tuple(map(Front, two.targets, endpoints))
        shapes = (get("/status"), ping_stateless())
        yield Stand("two fronts over ssh", two.project, "prod", inventory, fronts, "green", shapes)


@contextmanager
def lab(_port: int) -> Iterator[Stand]:
    """The lab, as it was found and left."""
    inventory = REPOSITORY / "inventories/lab"
    fleet = yaml.safe_load((inventory / "hosts.yml").read_text())["all"]
    cafile = Path(fleet["vars"]["lab_directory"]) / "ca/ca.crt"
    targets = saved_targets(REPOSITORY / ".mcpops/lab")
    fronts = tuple(Front(target, Endpoint.of(target.address, 443, LAB_NAME, cafile)) for target in targets)
    shapes = (get("/status"), ping_without_session())
    found = str(fronts[0].ask(("status",))["active"])
    yield Stand("two lab hosts over ssh", REPOSITORY, "lab", inventory, fronts, found, shapes, sources=())
    for front in fronts:
        front.send_to(found)


STANDS: Mapping[str, Callable[[int], AbstractContextManager[Stand]]] = {"local": local, "ssh": ssh, "lab": lab}


def saved_targets(state: Path) -> list[Target]:
    """The fronts as the last deploy saved them."""
    targets = load_targets(state / "targets.json", None)
    assert targets, f"{state}: nothing was deployed yet"
    return list(targets)


def variables(target: Target) -> dict[str, Any]:
    """What an inventory says of a host."""
    return {
        "ansible_host": target.address,
        "ansible_port": target.port,
        "ansible_user": target.user,
        "ansible_ssh_private_key_file": target.private_key_file,
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={target.known_hosts_file}",
        "ansible_python_interpreter": target.python,
        "hostside_path": target.hostside_path,
        "service_state_dir": target.state_dir,
    }
