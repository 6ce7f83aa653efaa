"""A snapshot: the files that a run uses, copied, so that a resume runs what was approved and not what was edited.

Layout: playbooks/, roles/, plugins/, ansible.cfg, inventory/. A role is taken whole from the first directory of the
search path that has it; playbooks and plugins file by file. The digest is what an approval is bound to, and what a
resume compares (`core.tree.tree_digest` of the snapshot) before it runs anything from it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from mcpops.core.errors import UsageError
from mcpops.core.tree import files, tree_digest
from mcpops.runbook.search import SearchPath

_CONFIGURATION = "ansible.cfg"


def snapshot(search: SearchPath, inventory: Path, destination: Path) -> str:
    """Copy what is in force into the new directory `destination` (0700) and return its digest.

    `inventory` is a directory or a file; it becomes `inventory`. Modes are kept, so a 0600 file stays one; links
    are followed. The destination appears whole or not at all. Raises UsageError when something cannot be copied
    (a link to nothing, no permission) or when the destination is there already.
    """
    if destination.exists():
        raise UsageError(f"the snapshot {destination} is there already", hint="each run has a directory of its own")
    destination.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}")
    temporary.mkdir(mode=0o700)
    try:
        for source, name in _sources(search, inventory):
            _copy(source, temporary / name)
        digest = tree_digest(temporary)
        temporary.rename(destination)
    except OSError as error:
        raise UsageError(
            "the project cannot be copied for the run",
            detail=f"{error.filename}: {error.strerror}",
            hint="repair or remove that file; a link must lead somewhere",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return digest


def _sources(search: SearchPath, inventory: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file in force with its name in the snapshot."""
    taken: set[str] = set()
    for root in search.roots:
        hidden = set(taken)
        for kind in ("playbooks", "roles", "plugins"):
            for path in files(root / kind):
                name = str(path.relative_to(root))
                # A role is one thing: half of one and half of another would fit nobody.
                unit = "/".join(Path(name).parts[:2]) if kind == "roles" else name
                if unit not in hidden:
                    taken.add(unit)
                    yield path, name
        if (root / _CONFIGURATION).is_file() and _CONFIGURATION not in taken:
            taken.add(_CONFIGURATION)
            yield root / _CONFIGURATION, _CONFIGURATION
    if inventory.is_dir():
        for path in files(inventory):
            yield path, str(Path("inventory") / path.relative_to(inventory))
    else:
        yield inventory, "inventory"


def _copy(source: Path, target: Path) -> None:
    """Copy content and mode; the file is never readable by more people than its source, not even for a moment."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mode = stat.S_IMODE(source.stat().st_mode)
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file, source.open("rb") as original:
        shutil.copyfileobj(original, file)
        os.fchmod(file.fileno(), mode)
