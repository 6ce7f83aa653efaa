"""Throw-away Debian hosts for tests: full systemd in systemd-nspawn, each with a network of its own.

    lab = Lab("demo").up(["web", "db"])
    lab["web"].ssh("systemctl is-system-running")
    lab.outside.run(["curl", "-s", f"http://{lab['web'].ipv4}/"])
    lab.down()

A host is one process tree: a supervisor that mounts an overlay over the base in a private mount namespace and keeps
systemd-nspawn running in it, in cgroups of its own, with an interface on the lab's bridge. The mounts end with the
processes; everything else carries the lab's name, so `down` finds it without a record. Needs root.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mcpops.core.errors import UsageError
from mcpops.core.files import write_atomic
from mcpops.lab import cgroups, machine, packages
from mcpops.lab.base import BaseSpec, base, remove_partial
from mcpops.lab.files import DATA, Places, locked, own_directory, remove_tree
from mcpops.lab.host import Host, new_key
from mcpops.lab.network import FIRST_CLIENT, FIRST_HOST, Network, Outside, Subnet, ip

# 128 by default, shared by all hosts' root; each takes about 12. The one thing that `down` leaves raised.
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_INOTIFY_MIN = 1024
_LOCK_TIMEOUT_S = 60
_SUBNET_LOCK = Path("/run/mcpops-lab/subnet.lock")  # not in /run/lock, where anybody can make it first and hold it
_PROPAGATE = Path("/run/systemd/nspawn/propagate")

Files = dict[str, tuple[str, int]]
"""Absolute path on a host -> (text, mode)."""


def to_stderr(message: str) -> None:
    """Print a progress line."""
    sys.stderr.write(f"{message}\n")


@dataclass(frozen=True)
class HostStatus:
    """One host as `mcpops lab status` shows it; `state` is running, frozen or stopped."""

    name: str
    state: str
    ipv4: str
    ipv6: str


@dataclass(frozen=True)
class LabStatus:
    """A lab as `mcpops lab status` shows it; `state` is up, partial (not all hosts run) or down."""

    name: str
    state: str
    directory: str
    base: str
    namespace: str
    hosts: tuple[HostStatus, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


class Lab:
    """Hosts that reach each other, the place outside and this machine, and nothing else.

    A lab lives on the machine, not in this object: any process that knows its name can join or end it.
    """

    def __init__(self, name: str, *, places: Places | None = None, say: Callable[[str], None] = to_stderr) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,11}", name):
            raise UsageError(
                f"{name!r} cannot name a lab",
                detail="expected 1 to 12 of a-z and 0-9, a letter first: it names a network interface",
            )
        self.name = name
        self.places = places or Places.from_environment()
        self.directory = self.places.state / name
        self.network = Network(name)
        self._say = say

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def record(self) -> dict[str, Any] | None:
        """What `up` wrote: base, subnet and the hosts' numbers; None when the lab is down.

        Raises Refused when the directory of the labs is another user's: what it says could be anybody's.
        """
        try:
            own_directory(self.places.state)
            record: dict[str, Any] = json.loads((self.directory / "lab.json").read_text())
        except FileNotFoundError:
            return None
        return record

    @property
    def hosts(self) -> dict[str, Host]:
        """The lab's hosts by name; empty when it is down."""
        record = self.record
        if record is None:
            return {}
        subnet, root = Subnet(record["subnet"]), Path(record["base"])
        return {
            name: Host(self.name, name, number, subnet, root, self.directory)
            for name, number in record["hosts"].items()
        }

    @property
    def outside(self) -> Outside:
        """The place outside the hosts; raises UsageError when the lab is down."""
        record = self.record
        if record is None:
            raise UsageError(f"the lab {self.name} is down", hint=f"mcpops lab up --name {self.name}")
        return Outside(self.network, Subnet(record["subnet"]))

    @staticmethod
    def check() -> None:
        """Raise Refused without root, Failed when the machine lacks something else; nothing was started."""
        lacking = machine.lacks()
        if lacking:
            raise lacking
        packages.check()

    def up(self, names: Sequence[str], *, files: Callable[[Host], Files] | None = None) -> Lab:
        """Make the hosts that do not exist, boot those that do not run, and wait for SSH on all of `names`.

        `files` gives what to write into a new host before its first boot. Repeating it is safe, also after a kill
        in the middle. Raises Refused without root, Failed when a package is missing or a host does not come.
        """
        self.check()
        for name in names:
            _check_host_name(name)
        with self._locked():
            if not self._intact():
                self._fresh()
            fresh = self._create(names, files)
            hosts = self.hosts
            for name in names:
                if hosts[name].state() == "stopped":
                    hosts[name].start()
            for name in names:
                hosts[name].wait()
            if fresh and len(hosts) > len(fresh):
                self._introduce([hosts[name] for name in fresh], [h for n, h in hosts.items() if n not in fresh])
        self.each(lambda host: host.wait_running(), names)
        self.outside.clients(1)
        return self

    def down(self) -> None:
        """End and remove everything of this lab, in whatever state it is. Raises Refused without root."""
        if os.geteuid() != 0:
            raise machine.no_root()
        with self._locked():
            self._remove()
        remove_partial(self.places.cache)

    def status(self) -> LabStatus:
        """Say what is there now, from the kernel, not from a record of the past."""
        record = self.record
        hosts = tuple(HostStatus(host.name, host.state(), host.ipv4, host.ipv6) for host in self.hosts.values())
        all_run = bool(hosts) and all(host.state == "running" for host in hosts)
        state = "down" if record is None else "up" if all_run and self._intact() else "partial"
        return LabStatus(
            name=self.name,
            state=state,
            directory=str(self.directory),
            base=record["base"] if record else "",
            namespace=self.network.namespace,
            hosts=hosts,
        )

    def each(self, action: Callable[[Host], object], names: Sequence[str] | None = None) -> None:
        """Do something to several hosts (default: all) at a time; the first error is raised when all are done."""
        chosen = [host for name, host in self.hosts.items() if names is None or name in names]
        with ThreadPoolExecutor(max_workers=max(1, len(chosen))) as pool:
            for done in [pool.submit(action, host) for host in chosen]:
                done.result()

    def _locked(self) -> Any:  # noqa: ANN401 - contextlib's own type has no short name
        return locked(self.places.state / f"{self.name}.lock", what=f"the lab {self.name}", timeout_s=_LOCK_TIMEOUT_S)

    def _intact(self) -> bool:
        """Tell whether record and network of the lab are both there; a killed `up` or a reboot leaves but one."""
        links = {link["ifname"] for link in json.loads(ip("-json", "link", "show"))}
        return (
            self.record is not None
            and self.network.bridge in links
            and self.network.namespace in ip("netns", "list").split()
        )

    def _fresh(self) -> None:
        self._remove()
        root = base(self.places.cache, BaseSpec.read(), lab=self.name, say=self._say)
        self.directory.mkdir(parents=True, mode=0o700)
        (self.directory / "hosts").mkdir()
        new_key(self.directory / "key", f"lab {self.name}")
        with locked(_SUBNET_LOCK, what="the choice of a subnet", timeout_s=_LOCK_TIMEOUT_S):
            subnet = self.network.up()
        _INOTIFY.write_text(str(max(_INOTIFY_MIN, int(_INOTIFY.read_text()))))
        self._write_record({"base": str(root), "subnet": subnet.number, "hosts": {}})

    def _create(self, names: Sequence[str], files: Callable[[Host], Files] | None) -> list[str]:
        """Give numbers to new names, write those hosts' files and the SSH configuration; return the new names."""
        record = self.record or {}
        numbers: dict[str, int] = record["hosts"]
        for name in names:
            numbers.setdefault(name, FIRST_HOST + len(numbers))
        if len(numbers) > FIRST_CLIENT - FIRST_HOST:
            raise UsageError(f"a lab has at most {FIRST_CLIENT - FIRST_HOST} hosts, not {len(numbers)}")
        self._write_record(record)
        hosts = self.hosts
        addresses = {name: (host.ipv4, host.ipv6) for name, host in hosts.items()}
        fresh = [name for name, host in hosts.items() if not host.directory.exists()]
        for name in fresh:
            hosts[name].create(addresses, files(hosts[name]) if files else {})
        self._write_ssh_config(hosts)
        return fresh

    def _write_ssh_config(self, hosts: dict[str, Host]) -> None:
        template = (DATA / "ssh_config").read_text()
        config, known = "", ""
        for host in hosts.values():
            config += template.format(name=host.name, ipv4=host.ipv4, ipv6=host.ipv6, directory=self.directory)
            key = (host.directory / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text()
            known += f"{host.name},{host.ipv4},{host.ipv6} {key}"
        write_atomic(self.directory / "ssh_config", config)
        write_atomic(self.directory / "known_hosts", known)

    @staticmethod
    def _introduce(fresh: Sequence[Host], known: Sequence[Host]) -> None:
        """Tell the hosts that were there before about the new ones."""
        lines = "".join(f"{address} {host.name}\n" for host in fresh for address in (host.ipv4, host.ipv6))
        for host in known:
            if host.state() == "running":
                host.ssh("cat >> /etc/hosts", stdin=lines)

    def _write_record(self, record: dict[str, Any]) -> None:
        write_atomic(self.directory / "lab.json", json.dumps(record, indent=1))

    def _remove(self) -> None:
        cgroups.remove(self.name)
        self.network.down()
        for left in _PROPAGATE.glob(f"{self.name}-*"):
            left.rmdir()
        remove_tree(self.directory)


def _check_host_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
        raise UsageError(
            f"{name!r} cannot name a lab host", detail="expected 1 to 31 of a-z, 0-9 and -, a letter first"
        )
