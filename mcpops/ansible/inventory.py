"""An environment's inventory: its groups and hosts, and how to reach each host without Ansible."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mcpops.ansible.ask import ask
from mcpops.ansible.environment import NO_PASSWORD, require_vault_passwords
from mcpops.core import tree
from mcpops.core.errors import UsageError
from mcpops.core.person import account
from mcpops.model.target import Target

# What `targets` reads; resolved together, so that a template may use any other variable.
_NAMES = (
    "ansible_host",
    "ansible_port",
    "ansible_user",
    "ansible_connection",
    "ansible_python_interpreter",
    "ansible_ssh_private_key_file",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "hostside_path",
    "service_state_dir",
)
# Connection plugins that end in an ssh of the same host, port, user and key.
_SSH = frozenset({"ssh", "smart", "paramiko_ssh", "paramiko", "warm"})
_SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Inventory:
    """What Ansible makes of an environment's directory. `variables`: per host, only the names that were asked for."""

    path: Path
    groups: Mapping[str, tuple[str, ...]]
    variables: Mapping[str, Mapping[str, Any]]

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts, in the inventory's order."""
        return tuple(self.variables)

    @property
    def local(self) -> bool:
        """Whether every host is this machine."""
        connections = (values.get("ansible_connection", "ssh") for values in self.variables.values())
        return all(str(connection).rpartition(".")[2] == "local" for connection in connections)

    def group(self, name: str) -> tuple[str, ...]:
        """Return the hosts of a group; raise UsageError when there is none: nothing to do is never a success."""
        hosts = self.groups.get(name)
        if hosts:
            return hosts
        what = "has no hosts" if name in self.groups else "is not there"
        known = ", ".join(sorted(set(self.groups) - {"ungrouped"}))
        raise UsageError(
            f"group {name!r} {what} in {self.path}",
            detail=f"expected at least one host, found none; groups are: {known}",
            hint=f"add hosts under {name}: in {self.path}",
            where=str(self.path),
        )


def load_inventory(env_dir: Path, project: Path, names: Iterable[str] = ()) -> Inventory:
    """Read the inventory of an environment; `names` are further variables to resolve for every host.

    `project` is where ansible.cfg and the playbooks are; templates see it as `mcpops_project`. Raises UsageError
    when Ansible cannot read a source, when a template cannot be resolved, or when there is no host at all.
    """
    if not env_dir.exists():
        raise UsageError(f"the inventory {env_dir} is not there", hint="mcpops init DIR writes one", where=str(env_dir))
    wanted = list(dict.fromkeys((*_NAMES, *names)))
    answer = ask("inventory_dump", env_dir, project, project, names=wanted)
    if answer["errors"]:
        raise _unreadable(env_dir, project, answer)
    groups = {name: tuple(hosts) for name, hosts in answer["groups"].items()}
    inventory = Inventory(env_dir, groups, answer["variables"])
    inventory.group("all")
    return inventory


def match_hosts(sources: Path, project: Path, patterns: Iterable[str]) -> dict[str, tuple[str, ...] | None]:
    """Return the hosts that each pattern means in the inventory `sources`; None for one that only a run can resolve.

    Raises UsageError when Ansible cannot read a source.
    """
    wanted = list(dict.fromkeys(patterns))
    plain = [pattern for pattern in wanted if "{{" not in pattern]
    answer = ask("inventory_dump", sources, project, project, names=[], patterns=plain)
    if answer["errors"]:
        raise _unreadable(sources, project, answer)
    return {pattern: tuple(answer["matches"][pattern]) if pattern in plain else None for pattern in wanted}


def _unreadable(env_dir: Path, project: Path, answer: Mapping[str, Any]) -> UsageError:
    """Return the error for an inventory that Ansible cannot read; raise it for a vault password that is not there."""
    hint = f"ansible-inventory -i {env_dir} --list shows what Ansible makes of it"
    if answer["encrypted"]:
        require_vault_passwords(project)
        hint = NO_PASSWORD
    return UsageError(
        f"the inventory {env_dir} cannot be read",
        detail="\n".join(answer["errors"]),
        hint=hint,
        where=answer["encrypted"] or str(env_dir),
    )


def targets(inventory: Inventory, group: str = "fronts") -> list[Target]:
    """Return how to reach each host of a group; raise UsageError with everything that is missing, per host."""
    found, problems = [], []
    for host in inventory.group(group):
        try:
            found.append(_target(host, inventory.variables[host]))
        except ValueError as error:
            problems.append(f"{host}: {error}")
    if problems:
        raise UsageError(
            f"{len(problems)} hosts of {group!r} in {inventory.path} cannot be reached directly",
            detail="\n".join(problems),
            hint=f"set these variables in {inventory.path}, for the group or the host",
            where=str(inventory.path),
        )
    return found


def tree_digest(env_dir: Path) -> str:
    """Return the digest of the inventory's files: saved targets are good as long as it is the same."""
    return tree.tree_digest(env_dir)


def _target(host: str, variables: Mapping[str, Any]) -> Target:
    """Return one target; raise ValueError saying what is missing or cannot be done without Ansible."""
    missing = [name for name in ("hostside_path", "service_state_dir") if not variables.get(name)]
    if missing:
        msg = f"no {', '.join(missing)}"
        raise ValueError(msg)
    connection = _connection(str(variables.get("ansible_connection", "ssh")))
    arguments = " ".join(str(variables.get(f"ansible_ssh_{kind}_args") or "") for kind in ("common", "extra"))
    options = _ssh_options(arguments) if connection == "ssh" else {}
    key = variables.get("ansible_ssh_private_key_file")
    return Target(
        name=host,
        address=str(variables.get("ansible_host") or host),
        connection=connection,
        python=_python(variables.get("ansible_python_interpreter"), connection),
        hostside_path=str(variables["hostside_path"]),
        state_dir=str(variables["service_state_dir"]),
        port=_port(variables.get("ansible_port")),
        user=str(variables.get("ansible_user") or account()),
        private_key_file=str(Path(str(key)).expanduser()) if key else options.get("identityfile"),
        known_hosts_file=options.get("userknownhostsfile"),
        ssh_config_file=options.get("F"),
    )


def _connection(name: str) -> Literal["ssh", "local"]:
    short = name.rpartition(".")[2]
    if short == "local":
        return "local"
    if short in _SSH:
        return "ssh"
    msg = f"ansible_connection {name!r}: expected ssh or local"
    raise ValueError(msg)


def _python(interpreter: object, connection: str) -> str:
    """Return the interpreter; `auto` and nothing mean the system's own, or this one here."""
    text = str(interpreter or "auto")
    if not text.startswith("auto"):
        return text
    return sys.executable if connection == "local" else _SYSTEM_PYTHON


def _port(value: object) -> int:
    text = str(value or 22)
    if not text.isdigit() or not 0 < int(text) < 65536:
        msg = f"ansible_port {text!r}: expected 1 to 65535"
        raise ValueError(msg)
    return int(text)


def _ssh_options(arguments: str) -> dict[str, str]:
    """Return what a direct connection needs of ssh's arguments: `F`, and the options in lower case.

    Raises ValueError for a way through another host that stands here: a direct connection reads that from an
    ssh configuration file only.
    """
    words = iter(shlex.split(arguments))
    options: dict[str, str] = {}
    for word in words:
        flag, value = word[:2], word[2:]
        if flag in ("-F", "-o", "-J", "-i"):
            value = value or next(words, "")
        if flag == "-F":
            options["F"] = str(Path(value).expanduser())
        elif flag == "-i":
            options["identityfile"] = str(Path(value).expanduser())
        elif flag == "-J":
            options["proxyjump"] = value
        elif flag == "-o":
            name, _, setting = value.replace(" ", "=", 1).partition("=") if "=" not in value else value.partition("=")
            options.setdefault(name.strip().lower(), setting.strip())
    through = [name for name in ("proxyjump", "proxycommand") if options.get(name, "none") != "none"]
    if through:
        msg = f"{through[0]} in ansible_ssh_common_args: put it into a file and say -F FILE"
        raise ValueError(msg)
    return options
