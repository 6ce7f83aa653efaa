"""Print an inventory with templates resolved, as one JSON object: `python -m mcpops.ansible.inventory_dump`.

`ansible-inventory --list` leaves templates as they are, and a play with `debug` costs an Ansible run. This asks
Ansible's own classes in a process of their own, and resolves the named variables only: a secret that the inventory
keeps in another variable is neither decrypted nor looked up.

Standard input: `{"sources": [path], "names": [variable], "playbook_dir": path, "extra": {name: value}}`. Output:
`{"groups": {name: [host]}, "variables": {host: {name: value}}, "errors": [text]}`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def dump(sources: list[str], names: list[str], playbook_dir: str, extra: dict[str, str]) -> dict[str, Any]:
    """Return groups, the named variables of each host, and what could not be read or resolved."""
    from ansible import context  # noqa: PLC0415
    from ansible.errors import AnsibleError  # noqa: PLC0415 - half a second, and reads its settings at import
    from ansible.inventory.manager import InventoryManager  # noqa: PLC0415
    from ansible.module_utils.common.collections import ImmutableDict  # noqa: PLC0415
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415
    from ansible.plugins.loader import init_plugin_loader  # noqa: PLC0415
    from ansible.template import Templar  # noqa: PLC0415
    from ansible.vars.manager import VariableManager  # noqa: PLC0415

    # How Ansible's own example of its Python API passes what would stand on a command line.
    context.CLIARGS = ImmutableDict(extra_vars=(json.dumps(extra),))
    init_plugin_loader()
    loader = DataLoader()
    loader.set_basedir(playbook_dir)
    errors: list[str] = []
    try:
        inventory = InventoryManager(loader=loader, sources=sources)
        manager = VariableManager(loader=loader, inventory=inventory)
        variables: dict[str, dict[str, Any]] = {}
        for host in inventory.get_hosts("all"):
            values = manager.get_vars(host=host, include_hostvars=True)
            templar = Templar(loader=loader, variables=values)
            variables[host.name] = {}
            for name in names:
                if name in values:
                    try:
                        variables[host.name][name] = templar.template(values[name])
                    except AnsibleError as error:
                        errors.append(f"{host.name}: {name}: {error}")
    except AnsibleError as error:
        return {"groups": {}, "variables": {}, "errors": [str(error)]}
    groups = {name: [host.name for host in group.get_hosts()] for name, group in inventory.groups.items()}
    return {"groups": groups, "variables": variables, "errors": errors}


def main() -> int:
    """Answer one question from standard input."""
    question = json.load(sys.stdin)
    # Warnings and whatever a plugin prints must not mix with the answer.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    json.dump(dump(**question), out, default=str)
    out.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
