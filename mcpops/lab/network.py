"""The lab's network: a bridge with an IPv4 and an IPv6 subnet, and a namespace outside the hosts to probe from.

    bridge lb-NAME (this machine is .1) ── host0 of each host
                                        └─ vo-NAME ═ out0 in the namespace lab-NAME-out

Nothing is forwarded: hosts reach each other, the namespace and this machine, and nothing behind it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpops.core.errors import Failed

_LINK_NAME_MAX = 15  # IFNAMSIZ - 1
FIRST_HOST, FIRST_CLIENT, CLIENT_MAX = 11, 100, 150  # last octets: hosts .11 to .99, probing clients .100 to .249


@dataclass(frozen=True)
class Subnet:
    """The Nth pair of subnets: 10.99.N.0/24 and fd99:N::/64, with the same decimal digits in both."""

    number: int

    def ipv4(self, last: int) -> str:
        """Return an IPv4 address of the subnet by its last octet."""
        return f"10.99.{self.number}.{last}"

    def ipv6(self, last: int) -> str:
        """Return an IPv6 address of the subnet by its last number."""
        return str(ipaddress.IPv6Address(f"fd99:{self.number}::{last}"))


def ip(*words: str, check: bool = True) -> str:
    """Run iproute2 and return its stdout; raise Failed with its words when it refuses and `check` is set."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    if check and done.returncode:
        raise Failed(f"ip {' '.join(words)} failed", detail=done.stderr.strip())
    return done.stdout


def _links() -> list[dict[str, Any]]:
    links: list[dict[str, Any]] = json.loads(ip("-json", "link", "show"))
    return links


@dataclass(frozen=True)
class Network:
    """The names of one lab's network; they follow from the lab's name alone."""

    lab: str

    @property
    def bridge(self) -> str:
        """The bridge's interface name."""
        return f"lb-{self.lab}"[:_LINK_NAME_MAX]

    @property
    def namespace(self) -> str:
        """The name of the namespace to probe from."""
        return f"lab-{self.lab}-out"

    @property
    def _outside_port(self) -> str:
        return f"vo-{self.lab}"[:_LINK_NAME_MAX]

    def up(self) -> Subnet:
        """Make the bridge on the first free subnet, and the namespace; the caller holds the machine-wide lock."""
        used = ip("-4", "addr", "show")
        number = next((n for n in range(256) if f" 10.99.{n}." not in used), None)
        if number is None:
            raise Failed("no subnet is left for the lab", detail="all of 10.99.0.0/24 to 10.99.255.0/24 are in use")
        subnet = Subnet(number)
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{subnet.ipv4(1)}/24", "dev", self.bridge)
        Path(f"/proc/sys/net/ipv6/conf/{self.bridge}/disable_ipv6").write_text("0")
        ip("addr", "add", f"{subnet.ipv6(1)}/64", "dev", self.bridge, "nodad")
        ip("link", "set", self.bridge, "up")
        for family in ("ipv4", "ipv6"):
            Path(f"/proc/sys/net/{family}/conf/{self.bridge}/forwarding").write_text("0")
        ip("netns", "add", self.namespace)
        ip("link", "add", self._outside_port, "type", "veth", "peer", "name", "out0", "netns", self.namespace)
        ip("link", "set", self._outside_port, "master", self.bridge, "up")
        for link in ("lo", "out0"):
            ip("-n", self.namespace, "link", "set", link, "up")
        return subnet

    def port_of(self, host: str) -> str:
        """Return the interface on the bridge that leads to a host; raise Failed when it has none."""
        wanted = f"vb-{self.lab}-{host}"  # nspawn's name; too long a one is shortened and kept as an alternative
        for link in _links():
            if wanted in (link["ifname"], *link.get("altnames", [])):
                return str(link["ifname"])
        raise Failed(f"the host {host} has no interface on the bridge {self.bridge}", hint="is it running?")

    def set_plugged(self, host: str, *, plugged: bool) -> None:
        """Take a host's interface off the bridge or put it back; the host sees its carrier all the time."""
        where = ["master", self.bridge] if plugged else ["nomaster"]
        ip("link", "set", self.port_of(host), *where)

    def drop_port(self, host: str) -> None:
        """Remove a dead host's interface now; the kernel does so too, but later, and the name is needed again."""
        with contextlib.suppress(Failed):
            ip("link", "del", self.port_of(host), check=False)

    def down(self) -> None:
        """Remove the namespace with all processes in it, the interfaces and the bridge, whichever are there."""
        if self.namespace in ip("netns", "list").split():
            deadline_s = time.monotonic() + 10
            while pids := ip("netns", "pids", self.namespace, check=False).split():
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                if time.monotonic() > deadline_s:
                    raise Failed(f"processes in the namespace {self.namespace} do not end", detail=" ".join(pids))
                time.sleep(0.02)
            ip("netns", "del", self.namespace)
        for link in _links():
            names = (link["ifname"], *link.get("altnames", []))
            if (
                link.get("master") == self.bridge
                or link["ifname"] in (self.bridge, self._outside_port)
                or any(name.startswith(f"vb-{self.lab}-") for name in names)
            ):
                ip("link", "del", link["ifname"], check=False)  # one end of a pair takes the other along


@dataclass(frozen=True)
class Outside:
    """The place outside the hosts: programs run there see the lab as a client on the same wire does."""

    network: Network
    subnet: Subnet

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the argv that runs `argv` in the namespace; for a process of the caller's own."""
        return ["ip", "netns", "exec", self.network.namespace, *argv]

    def run(
        self, argv: Sequence[str], *, timeout_s: float = 60, check: bool = False, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace and return it with its output captured as text.

        Raises subprocess.TimeoutExpired, and CalledProcessError when `check` is set.
        """
        return subprocess.run(
            self.command(argv), capture_output=True, text=True, timeout=timeout_s, check=check, input=stdin
        )

    def clients(self, count: int) -> list[tuple[str, str]]:
        """Give the namespace `count` addresses to probe from, and return them as (IPv4, IPv6) pairs.

        The same first addresses come at every call; at most 150. Raises ValueError for more.
        """
        if not 1 <= count <= CLIENT_MAX:
            msg = f"a lab has 1 to {CLIENT_MAX} client addresses of each family, not {count}"
            raise ValueError(msg)
        pairs = [(self.subnet.ipv4(n), self.subnet.ipv6(n)) for n in range(FIRST_CLIENT, FIRST_CLIENT + count)]
        lines = [f"addr replace {v4}/24 dev out0\naddr replace {v6}/64 dev out0 nodad\n" for v4, v6 in pairs]
        done = subprocess.run(
            ["ip", "-n", self.network.namespace, "-batch", "-"],
            input="".join(lines), capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"no addresses for the namespace {self.network.namespace}", detail=done.stderr.strip())
        return pairs
