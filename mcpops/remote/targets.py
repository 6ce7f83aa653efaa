"""The targets file: how to reach the fronts, kept from the last reading of the inventory.

A rollback reads it instead of starting Ansible, and believes it as long as the inventory's files are the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from mcpops.core.files import write_atomic
from mcpops.model.target import Target

SCHEMA = 1
_NAMES = {field.name for field in fields(Target)}


def save_targets(path: Path, targets: Sequence[Target], inventory_digest: str) -> None:
    """Write the targets (0600, whole or not at all); nothing is written when they are there already."""
    rows = [asdict(target) for target in targets]
    text = json.dumps({"schema": SCHEMA, "inventory_digest": inventory_digest, "targets": rows}, indent=1) + "\n"
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    write_atomic(path, text)


def load_targets(path: Path, inventory_digest: str | None) -> list[Target] | None:
    """Return the saved targets; None when nothing was saved, or when they are of another inventory than this.

    With `inventory_digest` None they are taken whatever the inventory says now: the last resort of a rollback.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["schema"] != SCHEMA or inventory_digest not in (None, saved["inventory_digest"]):
            return None
        found = [Target(**row) for row in saved["targets"] if set(row) <= _NAMES]
        return found if len(found) == len(saved["targets"]) else found or None
    except (OSError, ValueError, KeyError, TypeError):
        return None
