"""Files that are whole or not there: temporary name, fsync, rename, fsync of the directory."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def write_new(path: Path, data: bytes) -> None:
    """Make `path` (0600) with `data`, whole or not at all; of several that do so at once, one does.

    Raises FileExistsError when it is there, OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp creates 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
        _sync(path.parent)
    finally:
        with suppress(OSError):  # where nothing may be removed (`chattr +a`), it stays
            Path(name).unlink()


def write_atomic(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace `path` by `text` (UTF-8) in one step; the old content stays in force when anything fails.

    The file is created with `mode`, never widened or narrowed afterwards. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp creates 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if mode != 0o600:
                os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """Put a directory's entries on disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
