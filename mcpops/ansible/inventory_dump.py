"""Print an inventory with templates resolved, as one JSON object: `python -m mcpops.ansible.inventory_dump`.

`ansible-inventory --list` leaves templates as they are, and a play with `debug` costs an Ansible run. This asks
Ansible's own classes in a process of their own, and resolves the named variables only: a secret that the inventory
keeps in another variable is neither decrypted nor looked up.

Standard input: `{"sources": [path], "names": [variable], "playbook_dir": path, "extra": {name: value}, "patterns":
[pattern]}`. Output: `{"groups": {name: [host]}, "variables": {host: {name: value}}, "matches": {pattern: [host]},
"errors": [text], "encrypted": "file:line"}`, the last one when an error is that something cannot be decrypted.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mcpops.ansible.environment import asks
from mcpops.core.tree import files


class Opened:
    """An inventory, read by Ansible's own classes, with the vault passwords that Ansible is told about.

    `hosts` raises AnsibleError for what cannot be read.
    """

    def __init__(self, sources: list[str], playbook_dir: str, extra: dict[str, str]) -> None:
        from ansible import context  # noqa: PLC0415 - half a second, and reads its settings at import
        from ansible.module_utils.common.collections import ImmutableDict  # noqa: PLC0415
        from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415

        # How Ansible's own example of its Python API passes what would stand on a command line.
        context.CLIARGS = ImmutableDict(extra_vars=(json.dumps(extra),))
        self._sources = sources
        self.loader = DataLoader()
        self.loader.set_basedir(playbook_dir)
        self.passwords = _vault_passwords(self.loader)
        self.loader.set_vault_secrets(self.passwords)
        self.groups: dict[str, list[str]] = {}
        self.matches: dict[str, list[str]] = {}

    def hosts(self, *, hostvars: bool = True, patterns: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each host with its variables, unresolved, those of others among them.

        Then `groups` is there, and in `matches` the hosts of each pattern.
        """
        from ansible.inventory.manager import InventoryManager  # noqa: PLC0415
        from ansible.vars.manager import VariableManager  # noqa: PLC0415

        inventory = InventoryManager(loader=self.loader, sources=self._sources)
        manager = VariableManager(loader=self.loader, inventory=inventory)
        for host in inventory.get_hosts("all"):
            yield host.name, manager.get_vars(host=host, include_hostvars=hostvars)
        self.groups = {name: [host.name for host in group.get_hosts()] for name, group in inventory.groups.items()}
        self.matches = {pattern: [host.name for host in inventory.get_hosts(pattern)] for pattern in patterns}


def _vault_passwords(loader: Any) -> list[Any]:  # noqa: ANN401 - a DataLoader
    """Return what Ansible's settings name. One that cannot be had is no error yet: perhaps nothing is encrypted."""
    from ansible import constants  # noqa: PLC0415
    from ansible.errors import AnsibleError  # noqa: PLC0415
    from ansible.parsing.vault import VaultSecretsContext  # noqa: PLC0415

    found: list[Any] = []
    identities = [source for source in constants.DEFAULT_VAULT_IDENTITY_LIST if not asks(source)]
    if identities or constants.DEFAULT_VAULT_PASSWORD_FILE:
        from ansible.cli import CLI  # noqa: PLC0415 - 0.2 s

        try:
            found = CLI.setup_vault_secrets(loader, identities, auto_prompt=False, initialize_context=False)
        except AnsibleError as error:
            print(error, file=sys.stderr)  # noqa: T201
    VaultSecretsContext.initialize(VaultSecretsContext(found))
    return found


def place(value: object) -> str:
    """Return where a value of Ansible's stands, `file:line`; nothing when it does not know."""
    from ansible._internal._datatag._tags import Origin  # noqa: PLC0415

    origin = Origin.get_tag(value)
    return str(origin).rsplit(":", 1)[0] if origin and origin.col_num else str(origin or "")


def dump(
    sources: list[str], names: list[str], playbook_dir: str, extra: dict[str, str], patterns: Sequence[str] = ()
) -> dict[str, Any]:
    """Return groups, the named variables of each host, what patterns match, and what could not be read or resolved."""
    from ansible.errors import AnsibleError  # noqa: PLC0415
    from ansible.parsing.vault import AnsibleVaultError, VaultHelper  # noqa: PLC0415
    from ansible.template import Templar  # noqa: PLC0415

    opened = Opened(sources, playbook_dir, extra)
    answer: dict[str, Any] = {"groups": {}, "variables": {}, "errors": [], "encrypted": ""}
    try:
        for host, values in opened.hosts(patterns=patterns):
            templar = Templar(loader=opened.loader, variables=values)
            resolved = answer["variables"][host] = {}
            for name in names:
                if name in values:
                    try:
                        resolved[name] = templar.template(values[name])
                    except AnsibleError as error:
                        answer["errors"].append(f"{host}: {name}: {error}")
                        if VaultHelper.get_ciphertext(values[name], with_tags=False):
                            answer["encrypted"] = place(values[name])
    except AnsibleError as error:
        cause = error.__cause__ or error.__context__  # its loader of vars files raises anew, without `from`
        answer |= {"variables": {}, "errors": [str(error)]}
        if isinstance(cause, AnsibleVaultError):
            answer["encrypted"] = place(cause.obj)
        elif hidden := _hidden(opened, sources):  # Ansible says of a source only that it could not be parsed
            answer["encrypted"], why = hidden
            answer["errors"].append(why)
    answer["groups"], answer["matches"] = opened.groups, opened.matches
    return answer


def _hidden(opened: Opened, sources: list[str]) -> tuple[str, str] | None:
    """Return the first file of the sources that is encrypted and cannot be decrypted, and why."""
    from ansible.errors import AnsibleError  # noqa: PLC0415

    for path in (path for source in sources for path in files(Path(source))):
        try:
            opened.loader.get_text_file_contents(str(path))
        except AnsibleError as error:
            return str(path), f"{path}: {error}"
    return None


def serve(answer_to: Callable[..., dict[str, Any]]) -> int:
    """Answer one question from standard input. Whoever asks may take a while: Ansible is imported meanwhile."""
    # Warnings and whatever a plugin prints must not mix with the answer.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name in ("ansible.template", "ansible.vars.manager"):  # half a second; they read Ansible's settings
        importlib.import_module(name)
    importlib.import_module("ansible.plugins.loader").init_plugin_loader()
    question = json.load(sys.stdin)
    json.dump(answer_to(**question), out, default=str)
    out.close()
    return 0


if __name__ == "__main__":
    sys.exit(serve(dump))
