"""A digest of a directory: which files, with which modes, with which content."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

from mcpops.core.canonical import digest

# Never part of what runs: version control, records, caches and build results.
EXCLUDED = frozenset({".git", ".mcpops", ".venv", "__pycache__", "wheelhouse", ".pytest_cache", ".mypy_cache"})

# Emacs puts a link `.#NAME` that leads nowhere beside a file that somebody edits. Ansible ignores it too.
EMACS_LOCK = ".#"


def files(root: Path) -> Iterator[Path]:
    """Yield the files below `root` (links followed), sorted by path, without EXCLUDED and `*.pyc`.

    A link that leads nowhere is yielded too, so that reading it fails, unless an editor made it; a directory that
    cannot be read raises OSError. A link back to a directory above it is not followed. Nothing when `root` is not a
    directory.
    """
    if root.is_dir():
        yield from _below(root, (root.resolve(),))


def _below(directory: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.name in EXCLUDED or path.suffix == ".pyc":
            continue
        if path.is_dir():
            real = path.resolve()
            if real not in above:
                yield from _below(path, (*above, real))
        elif path.is_file() or (path.is_symlink() and not path.name.startswith(EMACS_LOCK)):
            yield path


def tree_digest(root: Path) -> str:
    """Return `sha256:` and the digest over the sorted (path, mode, sha256) of the files below `root`."""
    rows = []
    for path in files(root):
        mode = stat.S_IMODE(path.stat().st_mode)
        rows.append([str(path.relative_to(root)), f"{mode:04o}", hashlib.sha256(path.read_bytes()).hexdigest()])
    return digest(sorted(rows))
