"""Files and directories as one reading found them, and whether they are still so. Standard library only.

Each file is read and hashed once. Later only its stamp is looked at: device, inode, size, and the times of the last
change. The kernel keeps the latter, and no program can set it back.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

# The kernel's clock for files ticks each 10 ms at worst. What changed just before it was read may change again without
# another time in its stamp, so it counts as changed whenever it is asked about.
SETTLED_NS = 100_000_000
_MAX_FILES = 2000  # the largest collections have 700: more is a mistake, like a path of "/"

Stamp = tuple[int, int, int, int, int]


class Uncertain(Exception):
    """It cannot be proved what went into a payload, or what would go into it now: it is not kept, or not used."""


class Tree(NamedTuple):
    """A directory with all below it, by content; a root that is not there is empty.

    `files`: relative path to SHA-256 of a Python source; "" for whatever else has a name there (directories end with a
    slash). `newest_ns`: time of the last change of any of them, ns since 1970.
    """

    files: Mapping[str, str]
    newest_ns: int

    def digest(self) -> str:
        """Return a SHA-256 over all names and contents."""
        text = "\n".join(f"{path}\0{digest}" for path, digest in sorted(self.files.items()))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class Sources:
    """One reading, which grows as more is asked for."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self.began_ns = now_ns()
        self._stamps: dict[str, Stamp | None] = {}
        self._digests: dict[str, str | None] = {}
        self._settled = True

    def unchanged(self) -> bool:
        """Whether all that was read is certainly still so; raises Uncertain if that cannot be seen."""
        if not self._settled:
            return False
        for path, stamp in self._stamps.items():  # without calls of ours: this runs before each task
            try:
                info = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                if stamp is not None:
                    return False
                continue
            except OSError as error:
                raise Uncertain(f"{path}: {error.strerror}") from error
            if stamp != (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns):
                return False
        return True

    def directory(self, path: str) -> bool:
        """Whether a directory is there."""
        info = _stat(path)
        self._record(path, info)
        return info is not None and stat.S_ISDIR(info.st_mode)

    def digest(self, path: str) -> str | None:
        """Return the SHA-256 of a regular file, None if nothing is there. Raises Uncertain for anything else."""
        if path not in self._digests:
            content = self._read(path)
            self._digests[path] = None if content is None else hashlib.sha256(content).hexdigest()
        return self._digests[path]

    def content(self, path: str) -> bytes:
        """Return what a regular file holds, b"" if nothing is there; raises Uncertain for anything else."""
        return self._read(path) or b""

    def names(self, path: str) -> list[str]:
        """Return the names of a directory's files, none if it is not there; raises Uncertain if it cannot be read."""
        if not self.directory(path):
            return []
        try:
            with os.scandir(path) as entries:
                return sorted(entry.name for entry in entries if entry.is_file())
        except OSError as error:
            raise Uncertain(f"{path}: {error.strerror}") from error

    def tree(self, root: str) -> Tree:
        """Read a directory and all below it. Raises Uncertain for what cannot be read, or leads elsewhere."""
        files: dict[str, str] = {}
        newest_ns = 0
        waiting = [("", root)] if self.directory(root) else []
        while waiting:
            prefix, directory = waiting.pop()
            newest_ns = max(newest_ns, self.changed_ns(directory))
            for entry in self._entries(directory):
                relative = prefix + entry.name
                if entry.is_dir():
                    waiting.append((f"{relative}/", entry.path))
                    files[f"{relative}/"] = ""
                elif entry.name.endswith(".py"):
                    files[relative] = self.digest(entry.path) or ""
                    newest_ns = max(newest_ns, self.changed_ns(entry.path))
                else:
                    files[relative] = ""
            if len(files) > _MAX_FILES:
                raise Uncertain(f"{root}: more than {_MAX_FILES} files")
        return Tree(files, newest_ns)

    def changed_ns(self, path: str) -> int:
        """Return the time of the last change of what was read, ns since 1970; 0 for what was not read or not there."""
        stamp = self._stamps.get(path)
        return stamp[-1] if stamp else 0

    def _entries(self, path: str) -> list[os.DirEntry[str]]:
        self.directory(path)
        try:
            with os.scandir(path) as found:
                # Compiled files are made by whoever imports, and Ansible never packs them.
                entries = [entry for entry in found if entry.name != "__pycache__"]
        except OSError as error:
            raise Uncertain(f"{path}: {error.strerror}") from error
        if any(entry.is_symlink() and entry.is_dir() for entry in entries):
            raise Uncertain(f"{path} holds a link to a directory")
        return entries

    def _read(self, path: str) -> bytes | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            self._record(path, None)
            return None
        except OSError as error:
            raise Uncertain(f"{path}: {error.strerror}") from error
        try:
            info = os.fstat(descriptor)
            self._record(path, info)
            content = os.read(descriptor, info.st_size + 1) if stat.S_ISREG(info.st_mode) else None
        finally:
            os.close(descriptor)
        if content is None or len(content) != info.st_size:
            raise Uncertain(f"{path} is no regular file, or is being written")
        return content

    def _record(self, path: str, info: os.stat_result | None) -> None:
        stamp = None if info is None else _as_stamp(info)
        changed = self._stamps.setdefault(path, stamp) != stamp
        if changed or (stamp is not None and stamp[-1] > self._now_ns() - SETTLED_NS):
            self._settled = False


def _as_stamp(info: os.stat_result) -> Stamp:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Uncertain(f"{path}: {error.strerror}") from error
