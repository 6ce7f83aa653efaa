"""A digest of a directory: which files, with which modes, with which content."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mcpops.core.canonical import digest

# Never part of what runs: version control, records, caches and build results.
EXCLUDED = frozenset({".git", ".mcpops", ".venv", "__pycache__", "wheelhouse", ".pytest_cache", ".mypy_cache"})


def files(root: Path) -> Iterator[Path]:
    """Yield the regular files below `root` (links followed), sorted by path, without EXCLUDED and `*.pyc`."""
    for directory, directories, names in os.walk(root, followlinks=True):
        directories[:] = sorted(name for name in directories if name not in EXCLUDED)
        for name in sorted(names):
            path = Path(directory) / name
            if name not in EXCLUDED and path.suffix != ".pyc" and path.is_file():
                yield path


def tree_digest(root: Path) -> str:
    """Return `sha256:` and the digest over the sorted (path, mode, sha256) of the files below `root`."""
    rows = []
    for path in files(root):
        mode = stat.S_IMODE(path.stat().st_mode)
        rows.append([str(path.relative_to(root)), f"{mode:04o}", hashlib.sha256(path.read_bytes()).hexdigest()])
    return digest(sorted(rows))
