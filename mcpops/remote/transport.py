"""Transport: how a channel to a host is opened. Local: a process of this machine. SSH: OpenSSH's client.

OpenSSH and not paramiko, because the person on call waits for it: start to first answer on one host took 0.20 s with
`ssh` and 0.44 s with paramiko 5.1 (0.21 s of it the import, 0.2 s the handshake in Python), and because `ssh` reads
known_hosts, ssh_config, agents and jump hosts exactly as the operator's own ssh does. `relay` takes off another 0.07 s.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from mcpops.core.person import account
from mcpops.model.target import Target
from mcpops.remote.channel import Channel, ProcessChannel

DEFAULT_PORT = 22
# Nothing may ask a question, nothing may outlive the channel, and an unknown host key is an error.
SSH_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "PreferredAuthentications=publickey",
    "GSSAPIAuthentication=no",
    "ControlMaster=no",
    "ControlPath=none",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "LogLevel=ERROR",
    # Three unanswered probes, six seconds: a host that vanished in the middle is told as such.
    "ServerAliveInterval=2",
    "ServerAliveCountMax=3",
)

# What OpenSSH's client says on stderr -> what to do about it.
SSH_HINTS = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "the host key changed: reinstalled, or somebody in between; ask before "
     "you replace the line in known_hosts"),
    ("Host key verification failed", "the host key is not known: compare it with the host's console, then add it to "
     "the known_hosts file (ssh-keyscan shows it)"),
    ("Permission denied", "the host does not accept this key: see user and private key of the inventory, or ssh-add"),
    ("Connection refused", "the host is up and its sshd is not: see port and service"),
    ("No route to host", "the host is down or cut off"),
    ("timed out", "the host is down or cut off"),
    ("Could not resolve hostname", "the name does not resolve: see ansible_host of the inventory"),
    ("No such file or directory", "hostside is not there: run the role `hostside` on the host"),
    ("can't open file", "hostside is not there: run the role `hostside` on the host"),
    ("not found", "Python is not there: see ansible_python_interpreter of the inventory"),
)  # fmt: skip


# Settings that say which way a connection goes: where one is, ssh goes it itself.
WAYS = frozenset({"proxycommand", "proxyjump", "bindaddress", "bindinterface", "addressfamily", "include", "match"})
SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
DROP_INS = "include /etc/ssh/ssh_config.d/*.conf"  # Debian's and Fedora's own line; those files are read too


class Transport(Protocol):
    """Opens channels."""

    def open(self, target: Target, connect_timeout_s: float) -> Channel:
        """Start a channel; whether it gets through shows at its first call."""


class LocalTransport:
    """hostside as a process of this machine."""

    def open(self, target: Target, connect_timeout_s: float) -> Channel:
        """Start hostside; nothing to connect to."""
        del connect_timeout_s
        return ProcessChannel(target, serve_argv(target), explain=explain)


class SshTransport:
    """hostside over OpenSSH's client: one connection of its own, strict host keys, keys or agent."""

    def open(self, target: Target, connect_timeout_s: float) -> Channel:
        """Start the client."""
        return ProcessChannel(target, ssh_argv(target, connect_timeout_s), explain=explain)


TRANSPORTS: Mapping[str, Transport] = {"local": LocalTransport(), "ssh": SshTransport()}


def serve_argv(target: Target) -> list[str]:
    """Return the command that runs on the host."""
    return [target.python, "-I", target.hostside_path, "--state", target.state_dir, "serve"]


def ssh_argv(target: Target, connect_timeout_s: float) -> list[str]:
    """Return the command line of the client. An ssh_config_file, where there is one, decides what is not said here."""
    argv = ["ssh"]
    for option in (*SSH_OPTIONS, f"ConnectTimeout={max(1, round(connect_timeout_s))}"):
        argv += ["-o", option]
    if target.ssh_config_file:
        argv += ["-F", target.ssh_config_file]
    else:
        # The default key exchange is a hybrid that costs 80 ms of this wait; what goes over the wire is no secret.
        argv += ["-o", "KexAlgorithms=^curve25519-sha256"]
    if target.known_hosts_file:
        argv += ["-o", f"UserKnownHostsFile={target.known_hosts_file}", "-o", "GlobalKnownHostsFile=none"]
    if target.private_key_file:
        argv += ["-o", "IdentitiesOnly=yes", "-i", target.private_key_file]
    # What is the default anyway is not said: an ssh_config may know better.
    if goes_straight(config_texts(target.ssh_config_file)):
        argv += ["-o", f"ProxyCommand={relay_command(connect_timeout_s)}"]
    if target.port != DEFAULT_PORT:
        argv += ["-p", str(target.port)]
    if target.user != account():
        argv += ["-l", target.user]
    return [*argv, "--", target.address, shlex.join(serve_argv(target))]


def relay_command(connect_timeout_s: float) -> str:
    """Return the relay as a ProxyCommand; ssh puts the host and the port in."""
    relay = [sys.executable, "-I", "-S", str(Path(__file__).with_name("relay.py"))]
    return shlex.join(relay).replace("%", "%%") + f" %h %p {connect_timeout_s:g}"


def config_texts(ssh_config_file: str | None) -> list[str]:
    """Return the texts of the configuration files that ssh will read."""
    paths = [Path(ssh_config_file)] if ssh_config_file else [Path("~/.ssh/config").expanduser(), SYSTEM_CONFIG]
    if not ssh_config_file:
        paths += sorted(SYSTEM_CONFIG.with_suffix(".d").glob("*.conf"))
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file()]


def goes_straight(configs: Iterable[str]) -> bool:
    """Whether no configuration may send a connection elsewhere than straight to its host; in doubt, no. Pure."""
    for text in configs:
        for line in text.splitlines():
            words = line.strip().lower().replace("=", " ").split()
            if words and words[0] in WAYS and " ".join(words) != DROP_INS:
                return False
    return True


def explain(said: str) -> tuple[str, str]:
    """Return detail and hint for what a client or an interpreter said on stderr."""
    for sign, hint in SSH_HINTS:
        if sign in said:
            return said, hint
    return said or "it said nothing on stderr", "`mcpops status` tells which fronts answer"
