"""The lab that mcpops is tested on: two fronts and a registry, real images in it, and the environment `lab`.

`up` writes into the project, so that `-e lab` (the lab's name) works like any environment:

    inventories/lab/hosts.yml            the hosts (group_vars beside it are in the repository)
    .mcpops/lab/releases/time-*.yml      releases of the two images, by digest
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mcpops.core.files import write_atomic
from mcpops.lab import registry as registries
from mcpops.lab.host import Host
from mcpops.lab.images import Images, images
from mcpops.lab.lab import Files, Lab
from mcpops.lab.registry import Registry
from mcpops.tls.ca import CertificateAuthority

FRONTS = ("front1", "front2")
HOSTS = (*FRONTS, registries.HOST)
SERVER_NAME = "time.lab.test"
_WRITTEN = "# Written by `mcpops lab up`, removed by `mcpops lab down`; not for the repository.\n"


@dataclass(frozen=True)
class Ecosystem:
    """A lab with its registry, releases and inventory; `project` is the directory with inventories/."""

    lab: Lab
    project: Path
    say: Callable[[str], None]

    @property
    def inventory(self) -> Path:
        """The hosts file that `up` writes."""
        return self.project / "inventories" / self.lab.name / "hosts.yml"

    @property
    def releases(self) -> Path:
        """The directory of the release files that `up` writes."""
        return self.project / ".mcpops" / self.lab.name / "releases"

    @property
    def authority(self) -> CertificateAuthority:
        """The lab's certificate authority: it vouches for the registry and the fronts."""
        return CertificateAuthority.ensure(self.lab.directory / "ca", f"mcpops lab {self.lab.name}")

    def up(self) -> dict[str, Any]:
        """Bring everything up and return the status; repeating it is safe and takes seconds."""
        self.lab.check()
        built = images(self.lab.places.cache, lab=self.lab.name, say=self.say)
        self.lab.up(HOSTS, files=self._files)
        host = self.lab[registries.HOST]
        registry = Registry.ensure(self.lab.directory, self.authority)
        registry.start(host)
        registry.push(host, built)
        self._write_releases(built)
        write_atomic(self.inventory, _WRITTEN + yaml.safe_dump(self._inventory(), sort_keys=False), mode=0o644)
        return self.status()

    def down(self) -> None:
        """End the lab and remove what `up` wrote into the project."""
        self.lab.down()
        self.inventory.unlink(missing_ok=True)
        for release in self.releases.glob("time-*.yml"):
            release.unlink()

    def status(self) -> dict[str, Any]:
        """Return the lab's status and where its environment is."""
        return {
            **self.lab.status().to_json(),
            "inventory": str(self.inventory) if self.inventory.exists() else None,
            "releases": sorted((path.stem for path in self.releases.glob("time-*.yml")), key=_by_version),
        }

    def _files(self, host: Host) -> Files:
        registry = Registry.ensure(self.lab.directory, self.authority)
        if host.name == registries.HOST:
            return registry.server_files(host)
        return registry.client_files()

    def _inventory(self) -> dict[str, Any]:
        directory = self.lab.directory
        hosts = {
            name: {"ansible_host": host.ipv4, "lab_ipv6": host.ipv6} for name, host in self.lab.hosts.items()
        }  # fmt: skip
        options = {
            "UserKnownHostsFile": directory / "known_hosts",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "ConnectTimeout": 5,
            "KexAlgorithms": "curve25519-sha256",
        }
        return {
            "all": {
                "vars": {
                    "ansible_user": "root",
                    "ansible_ssh_private_key_file": str(directory / "key"),
                    "ansible_ssh_common_args": " ".join(f"-o {key}={value}" for key, value in options.items()),
                    "lab_directory": str(directory),
                    "lab_namespace": self.lab.network.namespace,
                },
                "children": {
                    "fronts": {"hosts": {name: hosts[name] for name in FRONTS}},
                    "registries": {"hosts": {registries.HOST: hosts[registries.HOST]}},
                },
            }
        }

    def _write_releases(self, built: Images) -> None:
        for tag, digest in built.digests.items():
            release = {
                "name": f"time-{tag}",
                "artifact": {"kind": "image", "image": registries.reference(digest)},
                "command": list(built.command),
                "environment": {},
                "health_path": "/status",
                "canary": {"tool": "get_current_time", "arguments": {"timezone": "UTC"}},
            }
            text = yaml.safe_dump(release, sort_keys=False)
            write_atomic(self.releases / f"time-{tag}.yml", _WRITTEN + text, mode=0o644)


def _by_version(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]
