"""Lab hosts that the ways are timed on, and the watch: wall time, and CPU time of the control node and of the hosts.

The command runs in a cgroup of its own, beside those of the hosts: what it leaves behind (an ssh master, a server) is
counted and seen too. Each run starts on quiet hosts, with no connection open.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpops.lab import cgroups
from mcpops.lab.host import Host
from mcpops.lab.lab import Lab

CONTROL = "_control"  # the cgroup of what is typed; no host can have this name
RUN_TIMEOUT_S = 900.0
SETTLE_TIMEOUT_S = 20.0
QUIET_CPU = 0.04  # of one core, for each host
QUIET_TIMEOUT_S = 60.0
_POLL_S = 0.05
_MASTER = re.compile(r"ssh: (/\S+) \[mux\]")  # what an OpenSSH master calls itself
# Docker and containerd do something each second, which would be counted for whoever takes longest. With lingering,
# root's own systemd is there whether the last login was ten seconds ago or not.
_CALM = "systemctl disable --quiet --now docker.service docker.socket containerd.service; loginctl enable-linger root"


@dataclass(frozen=True)
class Took:
    """One command: what it took, and what it left running on either side once its ssh masters were ended.

    `other_cpu_s` is what the rest of this machine did meanwhile: with two cores, that is the noise.
    """

    wall_s: float
    control_cpu_s: float
    host_cpu_s: float
    other_cpu_s: float
    exit: int
    said: str
    left: tuple[str, ...]


@dataclass(frozen=True)
class Stand:
    """Hosts of a lab."""

    lab: Lab
    hosts: tuple[Host, ...]

    def inventory(self) -> dict[str, Any]:
        """The hosts as Ansible's inventory; pyinfra's reads the same."""
        known_hosts = self.lab.directory / "known_hosts"
        shared = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.lab.directory / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known_hosts}",
            "bench_known_hosts": str(known_hosts),
        }
        return {"all": {"hosts": {host.name: {"ansible_host": host.ipv4} for host in self.hosts}, "vars": shared}}

    def take(self, argv: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Took:
        """Run one command to its end, then wait until nothing of it is left, and say what that took."""
        self.quiet()
        before = self.cpu_s()
        began_s = time.monotonic()
        exit_code, said = self._run(argv, environment, cwd)
        wall_s = time.monotonic() - began_s
        left = self.settle()
        control_s, host_s, machine_s = (after - was for after, was in zip(self.cpu_s(), before, strict=True))
        other_s = max(0.0, machine_s - control_s - host_s)
        return Took(wall_s, control_s, host_s, other_s, exit_code, said, left)

    def _run(self, argv: Sequence[str], environment: Mapping[str, str], cwd: Path) -> tuple[int, str]:
        """Into a file: at the end of a pipe we would wait for the ssh master too."""
        said = cwd / "said.txt"
        with said.open("wb") as output:
            process = subprocess.Popen(
                cgroups.inside(self.lab.name, argv, CONTROL), cwd=cwd, env=dict(environment),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                exit_code = process.wait(RUN_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()  # what it started is ended by `settle`
                exit_code = process.wait()
        return exit_code, said.read_text(errors="replace")

    def cpu_s(self) -> tuple[float, float, float]:
        """CPU time so far of the control node's part, of all hosts, of the whole machine."""
        hosts_s = sum(cpu_of(self.lab.name, host.name) for host in self.hosts)
        return cpu_of(self.lab.name, CONTROL), hosts_s, machine_cpu_s()

    def quiet(self) -> None:
        """Wait until the hosts have nothing to do; AssertionError when they never do."""
        deadline_s, spent_s = time.monotonic() + QUIET_TIMEOUT_S, self.cpu_s()[1]
        while True:
            time.sleep(0.5)
            before_s, spent_s = spent_s, self.cpu_s()[1]
            busy = (spent_s - before_s) / 0.5
            if busy <= QUIET_CPU * len(self.hosts):
                return
            assert time.monotonic() < deadline_s, f"hosts not quiet in {QUIET_TIMEOUT_S:.0f} s: {busy:.2f} of a core"

    def settle(self) -> tuple[str, ...]:
        """End ssh masters and wait for all else to go; what is left after the deadline is named, and ended."""
        deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
        while left := {**self._left_here(), **self._left_on_hosts()}:
            for pid in (pid for pid, command in left.items() if _MASTER.fullmatch(command)):
                end(pid, signal.SIGTERM)
            if time.monotonic() > deadline_s:
                break
            time.sleep(_POLL_S)
        for pid in left:
            end(pid, signal.SIGKILL)
        return tuple(left.values())

    def _left_here(self) -> dict[int, str]:
        return dict(commands(cgroups.processes(self.lab.name, CONTROL)))

    def _left_on_hosts(self) -> dict[int, str]:
        return {
            pid: f"{host.name}: {command}"
            for host in self.hosts
            for pid, command in commands(cgroups.processes(self.lab.name, host.name))
            if is_of_session(command)
        }


@contextmanager
def hosts(name: str, count: int) -> Iterator[Stand]:
    """New hosts w1 to wN in a lab of this name, which is gone afterwards; whatever had the name before is gone too."""
    lab = Lab(name, say=lambda _: None)
    lab.down()
    try:
        lab.up([f"w{number}" for number in range(1, count + 1)])
        lab.each(lambda host: host.ssh(_CALM))
        cgroups.make(name, CONTROL)
        yield Stand(lab, tuple(lab.hosts.values()))
    finally:
        lab.down()


def cpu_of(lab: str, member: str) -> float:
    """CPU seconds of a member of a lab, all below it too."""
    for group in cgroups.find(lab, member):
        if (group / "cpuacct.usage").exists():
            return int((group / "cpuacct.usage").read_text()) / 1e9
    for group in cgroups.find(lab, member):
        if (group / "cpu.stat").exists() and "usage_usec" in (text := (group / "cpu.stat").read_text()):
            return int(text.split()[1]) / 1e6
    raise AssertionError(f"no cgroup counts the CPU time of {lab}/{member}")


def machine_cpu_s() -> float:
    """CPU seconds of this machine that were not idle."""
    user, nice, system, _idle, _iowait, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def commands(pids: set[int]) -> Iterator[tuple[int, str]]:
    """Each process that is still there with its command line, or its name when it has none."""
    for pid in pids:
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                yield pid, line or Path(f"/proc/{pid}/comm").read_text().strip()


def is_of_session(command: str) -> bool:
    """Whether it is a session's sshd or a Python: neither is on a host that nobody uses."""
    if command.startswith("sshd: "):
        return "[listener]" not in command
    return command.split(maxsplit=1)[0].rpartition("/")[2].startswith("python")


def end(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone. On SIGTERM an ssh master closes its connection, as on `-O exit`."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


STATE_SCRIPT = r"""
set -eu
for path in /etc/baseline /var/lib/baseline /opt/baseline/bin /opt/baseline/conf /etc/motd /opt/baseline/bin/job.sh \
    /etc/baseline/pwquality.conf /etc/baseline/app.conf /etc/baseline/audit.rules /etc/ssh/sshd_config /etc/login.defs \
    /etc/security/limits.d/90-baseline.conf /etc/hosts /etc/profile.d/baseline.sh /etc/sysctl.d/90-baseline.conf \
    /etc/systemd/system/baseline.service; do
    stat -c '%n %F %a %U %G' "$path"
    if [ -L "$path" ]; then readlink "$path"
    elif [ "$path" = /etc/hosts ]; then sed -n '/MANAGED BLOCK/,$p' "$path"  # the rest is the lab's
    elif [ -f "$path" ]; then sha256sum "$path"; fi
done
getent passwd svc audit; getent group ops; id audit; ls -d /home/svc /home/audit
for unit in baseline cron; do systemctl is-enabled "$unit"; systemctl is-active "$unit"; done
for user in root svc; do crontab -l -u "$user" | grep -v '^#'; done
dpkg-query -W -f '${Package} ${Status}\n' acl rsync libjemalloc2
"""


def state_of(host: Host) -> str:
    """All that the role is about, as text: equal on two hosts that are equal in it. Raises Failed when a part lacks."""
    return host.ssh(STATE_SCRIPT).stdout


def write_inventory(path: Path, inventory: Mapping[str, Any]) -> None:
    """For Ansible a JSON file is YAML too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(inventory, indent=1))
