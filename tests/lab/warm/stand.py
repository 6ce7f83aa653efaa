"""Twin hosts, and runs of the corpus on them over the ordinary connection or over the warm one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mcpops.lab import cgroups
from mcpops.lab.host import Host
from mcpops.lab.lab import Lab

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
BIN = Path(sys.executable).parent
PLUGIN = ROOT / "plugins/connection/warm.py"

MACHINE_ID = "0123456789abcdef0123456789abcdef"  # one for all: twins
LOGINS = ("root", "deploy")
LARGE_BYTES = 6 * 2**20  # more than any limit for a file that goes through a pipe
_TIMEOUT_S = 1500  # of a run; the whole corpus takes a fifth where nothing else runs

Plays = Mapping[str, Sequence[str]]
"""Which hosts run which plays: group of a playbook -> names of targets."""


@dataclass(frozen=True)
class Target:
    """A host of an inventory: a login on a machine, by an interpreter (None: Ansible looks for one)."""

    name: str
    machine: Host
    login: str
    interpreter: str | None

    def variables(self) -> dict[str, str]:
        """Return its variables."""
        found = {"ansible_python_interpreter": self.interpreter} if self.interpreter else {}
        return {"ansible_host": self.machine.ipv4, "ansible_user": self.login, **found}


@dataclass(frozen=True)
class Ended:
    """A run that ended: `names` are texts that another run cannot share, each with what stands for it."""

    way: str
    code: int
    results: Path
    error: str
    log: tuple[dict[str, Any], ...]
    names: dict[str, str]
    took_s: float


class Stand:
    """A lab with twins, one for each way and purpose, and a directory for what runs write here."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab, self.directory = lab, directory
        self.large = directory / "large"
        self.archive = directory / "archive.tgz"

    def up(self, names: Iterable[str]) -> None:
        """Bring fresh twins of these names up."""
        self.lab.down()
        self.lab.up(list(names), files=lambda _: {"/etc/machine-id": (f"{MACHINE_ID}\n", 0o444)})
        script = (HERE / "prepare.sh").read_text()
        self.lab.each(lambda host: host.ssh("sh -s", stdin=script))
        self.large.write_bytes(bytes(range(256)) * (LARGE_BYTES // 256))
        _pack(self.archive)

    def down(self) -> None:
        """Leave nothing of it."""
        self.lab.down()

    def run(self, way: str, targets: Sequence[Target], plays: Plays, playbook: str, *options: str) -> Ended:
        """Run a playbook of the corpus one way with stock ansible-playbook and return what came of it."""
        home = self.directory / f"{way}-{Path(playbook).stem}"
        home.mkdir()
        (home / "hosts.yml").write_text(yaml.safe_dump(self._inventory(way, targets, plays, home)))
        argv = [str(BIN / "ansible-playbook"), "-i", str(home / "hosts.yml"), *options, str(CORPUS / playbook)]
        began_s = time.monotonic()
        # In the lab's cgroups: masters of connections, and workers of a run that was ended, must go with the lab.
        with (home / "output").open("wb") as output, (home / "error").open("wb") as error:
            done = subprocess.run(
                cgroups.inside(self.lab.name, argv), cwd=ROOT, env=_environment(home), stdin=subprocess.DEVNULL,
                stdout=output, stderr=error, timeout=_TIMEOUT_S, check=False,
            )  # fmt: skip
        log = home / "warm.log"
        return Ended(
            way=way,
            code=done.returncode,
            results=home / "results",
            error=(home / "error").read_text(errors="surrogateescape"),
            log=tuple(map(json.loads, log.read_text().splitlines())) if log.exists() else (),
            names={str(home): "<home>", **_addresses(targets)},
            took_s=time.monotonic() - began_s,
        )

    def state(self, target: Target) -> dict[str, Any]:
        """Return what is on a machine: files and processes."""
        said = target.machine.ssh("python3 -", stdin=(HERE / "state.py").read_text()).stdout
        found: dict[str, Any] = json.loads(said)
        return found

    def _inventory(self, way: str, targets: Sequence[Target], plays: Plays, home: Path) -> dict[str, Any]:
        options = {
            "UserKnownHostsFile": self.lab.directory / "known_hosts",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "ConnectTimeout": 10,
            "KexAlgorithms": "curve25519-sha256",  # as the lab's own: the default takes 80 ms longer
        }
        variables = {
            "ansible_connection": way,
            "ansible_ssh_private_key_file": str(self.lab.directory / "key"),
            "ansible_ssh_common_args": " ".join(f"-o {key}={value}" for key, value in options.items()),
            "place": "/tmp/corpus-{{ inventory_hostname }}",
            "fetched": str(home / "fetched"),
            "large_file": str(self.large),
            "archive": str(self.archive),
        }
        hosts = {target.name: target.variables() for target in targets}
        groups = {play: {"hosts": dict.fromkeys(names)} for play, names in plays.items()}
        return {"all": {"hosts": hosts, "vars": variables, "children": groups}}


def _addresses(targets: Sequence[Target]) -> dict[str, str]:
    """What stands for the addresses: a twin's number is the one thing that it does not share."""
    families = ("ipv4", "ipv6")
    return {getattr(target.machine, family): "<address>" for target in targets for family in families}


def _pack(path: Path) -> None:
    """Write an archive that is the same in every run."""
    with tarfile.open(path, "w:gz") as archive:
        for name in ("one", "deep/two"):
            entry = archive.gettarinfo(CORPUS / "files/tree" / name, f"unpacked/{name}")
            entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime = 0, 0, "root", "root", 1_767_225_600
            with (CORPUS / "files/tree" / name).open("rb") as handle:
                archive.addfile(entry, handle)


def _environment(home: Path) -> dict[str, str]:
    """The environment of a run: the project's configuration, nothing of the person who started the tests."""
    kept = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "LANG": "C.UTF-8",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_HOME": str(home / "ansible"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(home / "cp"),
        "ANSIBLE_CONNECTION_PLUGINS": str(PLUGIN.parent),
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "whole",
        "ANSIBLE_WHOLE_FILE": str(home / "results"),
        "ANSIBLE_WARM_LOG": str(home / "warm.log"),
        "ANSIBLE_NOCOLOR": "1",
    }
