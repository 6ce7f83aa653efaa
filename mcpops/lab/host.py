"""One host of a lab: what makes it differ from the base, how it starts and ends, and what a test can do to it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from mcpops.core.errors import Failed
from mcpops.lab import cgroups
from mcpops.lab.files import DATA, UMASK, make_directories
from mcpops.lab.network import Network, Subnet

BOOT_TIMEOUT_S = 60
_POLL_S = 0.05

NSPAWN = (
    "--quiet", "--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+3", "--link-journal=no", "--resolv-conf=off",
    "--timezone=off",
    "--system-call-filter=@keyring bpf perf_event_open", "--capability=all",  # for Docker's runc
    "--drop-capability=CAP_SYS_TIME,CAP_SYS_MODULE,CAP_SYS_RAWIO",  # these act on the real machine
)  # fmt: skip
NSPAWN_ENVIRONMENT = {
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",  # the host's own net.* sysctls
    "SYSTEMD_NSPAWN_LOCK": "0",  # its lock files would outlive a kill
}


@dataclass(frozen=True)
class Host:
    """A Debian host: systemd, sshd, UFW and Docker in a network namespace of its own.

    `directory` holds its files, `lab_directory` the key and SSH configuration of the lab, `base` the root below it.
    """

    lab: str
    name: str
    number: int
    subnet: Subnet
    base: Path
    lab_directory: Path

    @property
    def directory(self) -> Path:
        """Where the host's files lie on this machine."""
        return self.lab_directory / "hosts" / self.name

    @property
    def ipv4(self) -> str:
        """The host's IPv4 address."""
        return self.subnet.ipv4(self.number)

    @property
    def ipv6(self) -> str:
        """The host's IPv6 address."""
        return self.subnet.ipv6(self.number)

    def create(self, names: dict[str, tuple[str, str]], files: dict[str, tuple[str, int]]) -> None:
        """Write what makes the host differ from the base: whole or not at all, by a rename at the end.

        `names` maps every host of the lab to its addresses; `files` maps absolute paths to (text, mode).
        """
        part = self.directory.with_name(f".{self.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for directory in ("root", "work", "docker", "containerd", "upper/etc/ssh", "upper/etc/systemd/network"):
            make_directories(part / directory)
        network = (DATA / "host0.network").read_text()
        addresses = {
            "gateway4": self.subnet.ipv4(1), "gateway6": self.subnet.ipv6(1), "ipv4": self.ipv4, "ipv6": self.ipv6
        }  # fmt: skip
        make_directories(part / "upper/root", 0o700)
        own = {
            "/etc/hostname": (f"{self.name}\n", 0o644),
            "/etc/machine-id": (f"{uuid.uuid4().hex}\n", 0o444),
            "/etc/hosts": (hosts_file(names), 0o644),
            "/etc/systemd/network/10-host0.network": (network.format(**addresses), 0o644),
            "/root/.ssh/authorized_keys": ((self.lab_directory / "key.pub").read_text(), 0o600),
        }
        for path, (text, mode) in {**own, **files}.items():
            _write_new(part / "upper" / path.lstrip("/"), text, mode)
        new_key(part / "upper/etc/ssh/ssh_host_ed25519_key", self.name)
        part.rename(self.directory)

    def start(self) -> None:
        """Boot the host; it does not end with this process."""
        groups = cgroups.make(self.lab, self.name)
        command = [
            "setsid", "--fork", "unshare", "--mount", "--propagation=private",
            "/bin/sh", str(DATA / "supervisor.sh"), *NSPAWN,
            f"--directory={self.directory}/root",
            f"--machine={self.lab}-{self.name}",
            f"--hostname={self.name}",
            f"--network-bridge={Network(self.lab).bridge}",
            # overlay2 cannot lie on the overlay that is the host's root
            f"--bind={self.directory}/docker:/var/lib/docker",
            f"--bind={self.directory}/containerd:/var/lib/containerd",
            "/bin/sh", "-c", (DATA / "init.sh").read_text(),
        ]  # fmt: skip
        environment = {
            "PATH": os.environ["PATH"], **NSPAWN_ENVIRONMENT, "LAB_BASE": str(self.base),
            "LAB_HOST": str(self.directory), "LAB_CGROUPS": " ".join(map(str, groups)),
        }  # fmt: skip
        with (self.directory / "console.log").open("ab") as log:
            # setsid forks and is done: the host is no child of this process
            subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, timeout=30, check=True,
                umask=UMASK,
            )  # fmt: skip

    def ssh(
        self, command: str, *, check: bool = True, timeout_s: float = 300, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root over a new SSH connection and return it with its output.

        Raises Failed when it ends with another code than 0 and `check` is set; subprocess.TimeoutExpired.
        """
        done = subprocess.run(
            cgroups.inside(self.lab, ["ssh", "-F", str(self.lab_directory / "ssh_config"), self.name, command]),
            input=stdin if stdin is not None else "",
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise Failed(
                f"{self.name}: exit {done.returncode} from: {command}",
                detail=f"{done.stdout}{done.stderr}".strip(),
                hint=f"ssh -F {self.lab_directory}/ssh_config {self.name}",
            )
        return done

    def put(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file on the running host; its directories are made."""
        self.ssh(f"install -D -m {mode:04o} /dev/stdin '{path}'", stdin=text)

    def boot_id(self) -> str:
        """Return what names this boot; empty while SSH does not answer."""
        try:
            socket.create_connection((self.ipv4, 22), 1).close()
            done = self.ssh("cat /proc/sys/kernel/random/boot_id", check=False, timeout_s=5)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip()

    def wait(self, *, other_than: str = "", timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until SSH answers, from another boot than `other_than`; raise Failed after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while self.boot_id() in ("", other_than):
            self._patience(deadline_s, f"SSH did not answer within {timeout_s:.0f} s")

    def wait_running(self, *, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until systemd has started everything; raise Failed naming the units that failed."""
        state = self.ssh("systemctl is-system-running --wait", check=False, timeout_s=timeout_s).stdout.strip()
        if state != "running":
            raise Failed(
                f"{self.name}: systemd is {state or 'not answering'}, not running",
                detail=self.ssh("systemctl --failed --no-legend", check=False).stdout.strip(),
            )

    def reboot(self) -> None:
        """Reboot in order, and wait for SSH."""
        before = self.boot_id()
        self.ssh("systemctl reboot", check=False)
        self.wait(other_than=before)

    def poweroff(self) -> None:
        """Shut down in order and wait for the end; `start` boots again."""
        self.ssh("systemctl poweroff", check=False)
        deadline_s = time.monotonic() + BOOT_TIMEOUT_S
        while cgroups.processes(self.lab, self.name):
            self._patience(deadline_s, f"did not power off within {BOOT_TIMEOUT_S} s")
        self.kill()

    def kill(self) -> None:
        """Pull the plug: every process ends at once; `start` boots again. What was written stays (no torn disk)."""
        cgroups.remove(self.lab, self.name)
        Network(self.lab).drop_port(self.name)

    def freeze(self) -> None:
        """Stop every process where it stands: the host takes connections but never answers."""
        cgroups.freeze(self.lab, self.name, frozen=True)

    def thaw(self) -> None:
        """Let a frozen host go on."""
        cgroups.freeze(self.lab, self.name, frozen=False)

    def unplug(self) -> None:
        """Take the host off the bridge: packets vanish both ways, the host itself goes on."""
        Network(self.lab).set_plugged(self.name, plugged=False)

    def plug(self) -> None:
        """Put the host back on the bridge."""
        Network(self.lab).set_plugged(self.name, plugged=True)

    def state(self) -> str:
        """Return `running`, `frozen` or `stopped`."""
        if not cgroups.processes(self.lab, self.name):
            return "stopped"
        return "frozen" if cgroups.is_frozen(self.lab, self.name) else "running"

    def _patience(self, deadline_s: float, what: str) -> None:
        if time.monotonic() > deadline_s:
            log = self.directory / "console.log"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:]) if log.exists() else ""
            raise Failed(f"{self.name}: {what}", detail=tail, hint=f"the host's console: {log}")
        time.sleep(_POLL_S)


def hosts_file(names: dict[str, tuple[str, str]]) -> str:
    """Return the text of /etc/hosts for hosts and their addresses."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    lines += [f"{address} {name}" for name, addresses in names.items() for address in addresses]
    return "".join(f"{line}\n" for line in lines)


def new_key(path: Path, comment: str) -> None:
    """Make an Ed25519 key pair for SSH: `path` (0600) and `path`.pub."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)],
        check=True, timeout=30, umask=UMASK,
    )  # fmt: skip


def _write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that does not exist yet, with exactly this mode; new directories under /root are private."""
    make_directories(path.parent, 0o700 if "/upper/root/" in str(path) else 0o755)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as handle:
        os.fchmod(descriptor, mode)
        handle.write(text)
