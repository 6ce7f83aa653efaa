"""Ansible's vault, as a run needs it: where its passwords are, and which values no record may show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcpops.ansible.ask import ask
from mcpops.ansible.environment import NO_PASSWORD, require_vault_passwords, vault_settings
from mcpops.core.errors import UsageError
from mcpops.core.secret import Secret
from mcpops.core.tree import files

_HEADER = b"$ANSIBLE_VAULT;"


@dataclass(frozen=True)
class Vault:
    """`secrets` are all values that a run can decrypt; `settings` tell its plays where the passwords are."""

    secrets: tuple[Secret, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


def open_vault(tree: Path, project: Path, inventory: Path) -> Vault:
    """Return what the vault keeps in the snapshot `tree` of a project; `inventory` is what its inventory is a copy of.

    Starts Ansible (0.6 s) only where something can be encrypted. Raises UsageError, naming the file that a person
    edits, when there is no password, or when it does not fit a variable of the inventory: such a run would end in
    the middle.
    """
    require_vault_passwords(project)
    settings = vault_settings(project)
    if not _may_be_encrypted(tree):
        return Vault((), settings)
    answer = ask("vault_dump", tree / "inventory", tree, project, below=str(tree.resolve()))
    if answer["errors"]:
        copied = f"{tree.resolve()}/inventory"
        raise UsageError(
            f"the inventory {inventory} has values that cannot be decrypted",
            detail="\n".join(answer["errors"]).replace(copied, str(inventory)),
            hint=NO_PASSWORD,
            where=answer["encrypted"].replace(copied, str(inventory)) or str(inventory),
        )
    return Vault(tuple(map(Secret, answer["values"])), settings)


def _may_be_encrypted(tree: Path) -> bool:
    """Whether a file has the mark of the vault in it, or the inventory comes from a program."""
    if any(os.access(path, os.X_OK) for path in files(tree / "inventory")):
        return True
    return any(_HEADER in path.read_bytes() for path in files(tree))
