"""What is typed: the ways to bring hosts to the role's state, each with the settings that its users have.

All get the same hosts, key and known hosts. The environment is empty but for what a shell has: nothing of the person
who runs the bench.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.stand import REPOSITORY, environment_of
from tests.bench.warm_stand import Stand, write_inventory

BIN = Path(sys.executable).parent
PEERS = REPOSITORY / ".venv-peers"
PEERS_LOCK = REPOSITORY / "requirements/peers.lock"
DATA = Path(__file__).with_name("warm")
SITE = DATA / "site.yml"
FORKS = 25

# What everybody is told to set first. Ansible's own ssh_args have ControlPersist too: without it a run would log in
# anew for each task.
TUNED = {
    "ANSIBLE_PIPELINING": "true",
    "ANSIBLE_GATHERING": "explicit",
    "ANSIBLE_FORKS": str(FORKS),
    "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
}
WARM = {
    "ANSIBLE_TRANSPORT": "warm",
    "ANSIBLE_CONNECTION_PLUGINS": str(REPOSITORY / "plugins/connection"),
}
PAYLOADS = {
    "ANSIBLE_CALLBACK_PLUGINS": str(REPOSITORY / "plugins/callback"),
    "ANSIBLE_CALLBACKS_ENABLED": "payload_cache",
}


@dataclass(frozen=True)
class Place:
    """Where a run finds its things: `home` is kept from run to run, `own` is new for each and removed after it."""

    home: Path
    own: Path

    @property
    def inventory(self) -> Path:
        """The hosts, for all but mcpops, which has a project."""
        return self.home / "hosts.json"

    @property
    def project(self) -> Path:
        """The project that mcpops is typed in."""
        return self.home / "project"

    @property
    def payloads(self) -> Path:
        """Where the payload cache keeps what it has."""
        return self.home / "payloads"


@dataclass(frozen=True)
class Command:
    """What is typed, beside the environment that all have."""

    argv: list[str]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Way:
    """One row. `says` names who reads its output; `keeps`: its users have something from the run before."""

    name: str
    note: str
    command: Callable[[Place], Command]
    says: str = "ansible"
    facts: bool = False
    keeps: bool = False
    peers: bool = False


def playbook(place: Place, settings: Mapping[str, str], program: Path = BIN) -> Command:
    """ansible-playbook, without any ansible.cfg; its directory is new, so no ssh master is found there."""
    places = {
        "ANSIBLE_CONFIG": str(place.home / "ansible.cfg"),
        "ANSIBLE_HOME": str(place.own),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(place.own / "cp"),  # it does not follow ANSIBLE_HOME
    }
    return Command([str(program / "ansible-playbook"), "-i", str(place.inventory), str(SITE)], {**places, **settings})


def warm(place: Place, payloads: Path) -> Command:
    """ansible-playbook over the warm connection, with the payloads kept there."""
    payloads.mkdir(mode=0o700, exist_ok=True)
    return playbook(place, TUNED | WARM | PAYLOADS | {"ANSIBLE_PAYLOAD_CACHE": str(payloads)})


def mitogen(place: Place) -> Command:
    """ansible-playbook with mitogen's strategy: same core, an environment of its own."""
    plugins = next((PEERS / "lib").glob("python3*/site-packages/ansible_mitogen/plugins/strategy"))
    strategy = {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(plugins)}
    return playbook(place, TUNED | strategy, PEERS / "bin")


def pyinfra(place: Place) -> Command:
    """The same state as a deploy of pyinfra, which is asked nothing: -y."""
    argv = [str(PEERS / "bin/pyinfra"), "-y", str(DATA / "inventory.py"), str(DATA / "deploy.py")]
    return Command(argv, {"BENCH_INVENTORY": str(place.inventory)})


def mcpops(place: Place) -> Command:
    """A runbook of one step."""
    return Command([str(BIN / "mcpops"), "run", "baseline", "-e", "bench", "-C", str(place.project)], {})


WAYS = {
    way.name: way
    for way in (
        Way("default", "ansible-playbook as installed", lambda place: playbook(place, {}), facts=True),
        Way("tuned", "pipelining, no facts, forks, interpreter", lambda place: playbook(place, TUNED)),
        Way(
            "payloads", "tuned, and payloads kept",
            lambda place: playbook(place, TUNED | PAYLOADS | {"ANSIBLE_PAYLOAD_CACHE": str(place.payloads)}),
            keeps=True,
        ),
        Way("warm", "tuned, warm connection, payloads kept", lambda place: warm(place, place.payloads), keeps=True),
        Way("warm-cold", "the same, no payloads yet", lambda place: warm(place, place.own / "payloads")),
        Way("mitogen", "tuned, strategy mitogen_linear", mitogen, peers=True),
        Way("pyinfra", "a deploy with the same end state", pyinfra, says="pyinfra", peers=True),
        Way("mcpops", "mcpops run: warm, with its record", mcpops, says="mcpops", keeps=True),
    )
}  # fmt: skip


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """What a shell has, and `more`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", **more}


def furnish(home: Path, stand: Stand) -> None:
    """Write what the ways find in `home`: no settings, the hosts, and a project for mcpops."""
    (home / "ansible.cfg").touch()
    (home / "payloads").mkdir(mode=0o700, exist_ok=True)
    write_inventory(home / "hosts.json", stand.inventory())
    project = home / "project"
    settings = {"ansible_python_interpreter": TUNED["ANSIBLE_PYTHON_INTERPRETER"]}
    inventory = stand.inventory()
    inventory["all"]["vars"] |= settings
    write_inventory(project / "inventories/bench/hosts.json", inventory)
    shutil.copytree(DATA / "roles", project / "roles", dirs_exist_ok=True)
    (project / "playbooks").mkdir(exist_ok=True)
    shutil.copy(SITE, project / "playbooks/baseline.yml")
    shutil.copy(REPOSITORY / "ansible.cfg", project / "ansible.cfg")


def make_peers() -> None:
    """Make the environment of mitogen and pyinfra, when it is not there yet."""
    environment_of(PEERS, PEERS_LOCK)
