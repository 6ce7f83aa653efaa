"""Where the lab keeps things, its locks, and the removal of trees that may hold mounts."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcpops.core.errors import Busy, Refused

DATA = Path(__file__).with_name("data")
UMASK = 0o022
"""Of the programs that make or run a host: under 077, its networkd, dbus and haproxy could not reach their files."""

_POLL_S = 0.05


@dataclass(frozen=True)
class Places:
    """The two roots: `cache` survives (bases, images), `state` holds the labs that run.

    State is on tmpfs by default: creating a file there takes 0.02 ms against 0.7 ms on a disk, and Docker's
    overlay2 works on both.
    """

    cache: Path
    state: Path

    @classmethod
    def from_environment(cls) -> Places:
        """Return the roots that LAB_CACHE and LAB_STATE name, or the defaults."""
        return cls(
            cache=Path(os.environ.get("LAB_CACHE", "/var/cache/mcpops-lab")),
            state=Path(os.environ.get("LAB_STATE", "/dev/shm/mcpops-lab")),  # noqa: S108 - own_directory
        )


def own_directory(path: Path) -> None:
    """Raise Refused unless `path` is a directory, no link, of this user, in which nobody else can write.

    In /dev/shm anybody can make it before root does, and put keys and trees of their own there. What is ours there
    stays ours: in a sticky directory nobody else can rename or remove it. Raises FileNotFoundError.
    """
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        problem = "it is a link or a file, not a directory"
    elif found.st_uid != os.geteuid():
        problem = f"it belongs to the user {found.st_uid}, not to {os.geteuid()}"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"others can write to it: its mode is {stat.S_IMODE(found.st_mode):04o}"
    else:
        return
    hint = f"see who made it (ls -ld {path}) and remove it, or move the lab with LAB_STATE and LAB_CACHE"
    raise Refused(
        f"the lab does not keep keys and root directories in {path}",
        detail=problem,
        hint="run as root" if found.st_uid == 0 and os.geteuid() != 0 else hint,
    )


@contextlib.contextmanager
def locked(path: Path, *, what: str, timeout_s: float) -> Iterator[None]:
    """Hold an exclusive lock on `path`, which ends with this process however it ends.

    Its directory is made if need be. Raises Refused when that is not this user's alone, or the lock is a link; Busy
    when another process still holds it after `timeout_s`.
    """
    with contextlib.suppress(FileExistsError):  # a link or a file of that name: the next line says so
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    own_directory(path.parent)
    deadline_s = time.monotonic() + timeout_s
    with os.fdopen(_open_lock(path), "w") as handle:
        while not _try_lock(handle.fileno()):
            if time.monotonic() > deadline_s:
                raise Busy(
                    f"{what} is in use by another process",
                    detail=f"waited {timeout_s:.0f} s for the lock {path}",
                    hint=f"wait for it, or see who holds it: fuser -v {path}",
                )
            time.sleep(_POLL_S)
        yield


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise Refused(
            f"the lock {path} is a link", detail=f"it leads to {path.readlink()}", hint=f"remove it: rm {path}"
        ) from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_directories(path: Path, mode: int = 0o755) -> None:
    """Make a directory and those above it that are missing, each with exactly `mode`, whatever the umask is."""
    if not path.is_dir():
        make_directories(path.parent, mode)
        path.mkdir(mode)
        path.chmod(mode)


def mounts_below(path: Path) -> list[str]:
    """Return the mount points at or below `path` that this process sees, the deepest last."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if point == str(path) or point.startswith(f"{path}/")]


def remove_tree(path: Path) -> None:
    """Delete a tree, but never through a mount that was left in it: those are unmounted first."""
    for point in reversed(mounts_below(path)):
        subprocess.run(["umount", point], check=True, timeout=30)
    subprocess.run(["rm", "-rf", "--one-file-system", str(path)], check=True, timeout=300)
