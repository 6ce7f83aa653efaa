"""The directory of kept payloads: who may write there, how a payload gets in and out, what is thrown away.

Payloads are pickles, so whoever can write here runs code as us: a directory or a file that others could have written is
not used. A payload and its manifest (JSON, `Entry`) are written under another name and renamed, so runs at once never
see half a file; a payload has a part of its digest in its name, so they never overwrite each other's either. Nothing is
fsynced: what a power cut tears has another digest, and is not used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

FORMAT = 1
# Payloads are 160 to 340 KB each; a state of ansible-core and of our modules has about 40. A project that was left
# alone for a holiday finds its payloads again, and a machine keeps some fifteen states.
KEPT_S = 30 * 86400
KEPT_BYTES = 128 << 20
_TOUCHED_S = 86400  # the time of the last use is written once a day at most
_LEFTOVER_S = 3600  # no writer needs an hour
_MANIFEST_BYTES = 1 << 16
_PAYLOAD_BYTES = 1 << 26
_BUFFER_BYTES = 1 << 17  # stays in the processor's cache
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_OURS = re.compile(r"(?:[0-9a-f]{16}-[0-9a-f]{24}(?:\.json|-[0-9a-f]{16}\.payload)|\.[0-9a-f]{16}\.tmp)")
# Another file system, or one without links, or too many of them, or another run put its own file there just now: the
# payload is copied.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOENT)


class Unsafe(Exception):
    """Others can write here, or could have: it is not used."""


class Damaged(Exception):
    """Not what was written: it is not used."""


# A NamedTuple, as all values of the cache: to make a frozen dataclass takes 0.6 ms, and each run imports this.
class Entry(NamedTuple):
    """What stands in a manifest.

    `key`: digest of what all payloads have in common. `name`: the file's name in Ansible's directory. `collections`:
    digest of each collection that the payload's sources name, None for one that was not there.
    """

    key: str
    name: str
    module_sha256: str
    collections: Mapping[str, str | None]
    payload_sha256: str

    def stem(self) -> str:
        """Return the beginning of the file names: equal inputs have the same."""
        inputs = f"{self.name} {self.module_sha256} {sorted(self.collections.items())}"
        return f"{self.key[:16]}-{hashlib.sha256(inputs.encode()).hexdigest()[:24]}"

    def payload(self) -> str:
        """Return the name of the payload's file."""
        return f"{self.stem()}-{self.payload_sha256[:16]}.payload"


class Store:
    """An open directory that is ours alone."""

    def __init__(self, descriptor: int, owner: int) -> None:
        self._directory = descriptor
        self._owner = owner

    @classmethod
    def open(cls, directory: Path, owner: int) -> Store:
        """Open the directory of the user `owner`, made if need be. Raises Unsafe, OSError."""
        _make(directory)
        for path in (*directory.parents, *Path(os.path.realpath(directory)).parents):
            _require_closed(path, owner)
        if directory.is_symlink():
            raise Unsafe(f"{directory} is a symbolic link")
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _require_private(os.fstat(descriptor), owner, str(directory))
        except Unsafe:
            os.close(descriptor)
            raise
        return cls(descriptor, owner)

    def close(self) -> None:
        """Close the directory."""
        os.close(self._directory)

    def manifests(self, key: str) -> list[str]:
        """Return the names of all manifests of a key."""
        with os.scandir(self._directory) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(key[:16])]
        return sorted(name for name in names if name.endswith(".json") and _OURS.fullmatch(name))

    def entry(self, manifest: str) -> Entry:
        """Read a manifest. Raises Unsafe, Damaged, FileNotFoundError, OSError."""
        with self._opened(manifest, _MANIFEST_BYTES) as (descriptor, info):
            entry = _parse(os.read(descriptor, info.st_size), manifest)
        if f"{entry.stem()}.json" != manifest:
            raise Damaged(f"{manifest} has another name than what stands in it")
        return entry

    def give(self, entry: Entry, target: Path, now_s: float) -> None:
        """Put the payload where nothing is yet, and nobody looks meanwhile.

        Raises Unsafe, Damaged, FileNotFoundError, OSError; nothing is there then.
        """
        with self._opened(entry.payload(), _PAYLOAD_BYTES) as (descriptor, info):
            linked = self._link(entry.payload(), info, target)
            try:
                digest = _sha256(descriptor) if linked else _copy(descriptor, target)
                if digest != entry.payload_sha256:
                    raise Damaged(f"{entry.payload()} is not what was written")
            except BaseException:
                target.unlink(missing_ok=True)
                raise
            self._touch(entry, info, now_s)

    def write(self, entry: Entry, payload: bytes) -> None:
        """Keep a payload, in place of one with the same inputs. Raises OSError."""
        self._put(entry.payload(), payload)
        # The manifest comes last: who sees it finds the payload.
        self._put(f"{entry.stem()}.json", json.dumps({"format": FORMAT, **entry._asdict()}, indent=1).encode())

    def prune(self, now_s: float) -> int:
        """Remove what was not used for long, and the longest unused of what is too much; return how many files.

        Half a pair may stay behind: without the other it is nothing, and goes in its turn. Nothing that does not have
        a name of ours is touched.
        """
        files = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another run prunes too
                    if _OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        info = entry.stat(follow_symlinks=False)
                        files.append((info.st_mtime, info.st_size, entry.name))
        gone = _superfluous(files, now_s)
        for name in gone:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._directory)
        return len(gone)

    @contextmanager
    def _opened(self, name: str, limit: int) -> Iterator[tuple[int, os.stat_result]]:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=self._directory)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Unsafe(f"{name} is a symbolic link") from error
            raise
        try:
            info = os.fstat(descriptor)
            _require_private(info, self._owner, name)
            if not stat.S_ISREG(info.st_mode) or info.st_size > limit:
                raise Damaged(f"{name} is no regular file, or longer than {limit} bytes")
            yield descriptor, info
        finally:
            os.close(descriptor)

    def _link(self, name: str, info: os.stat_result, target: Path) -> bool:
        """Link the file that was read to `target`; False if it must be copied."""
        try:
            os.link(name, target, src_dir_fd=self._directory, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_LINK:
                return False
            raise
        linked = target.lstat()
        if (linked.st_dev, linked.st_ino) == (info.st_dev, info.st_ino):
            return True
        target.unlink()  # another run put its own there just now
        return False

    def _touch(self, entry: Entry, info: os.stat_result, now_s: float) -> None:
        if info.st_mtime > now_s - _TOUCHED_S:
            return
        for name in (entry.payload(), f"{entry.stem()}.json"):
            with suppress(FileNotFoundError):
                os.utime(name, (now_s, now_s), dir_fd=self._directory, follow_symlinks=False)

    def _put(self, name: str, content: bytes) -> None:
        part = f".{secrets.token_hex(8)}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(part, flags, 0o600, dir_fd=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.rename(part, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError:
            os.unlink(part, dir_fd=self._directory)
            raise


def _make(directory: Path) -> None:
    """Make a directory and its parents, each for us alone."""
    for path in (*reversed(directory.parents), directory):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)


def _require_closed(path: Path, owner: int) -> None:
    """Refuse a directory in which somebody else could put another one in the place of ours."""
    info = path.stat()
    strangers = {info.st_uid, path.lstat().st_uid} - {0, owner}  # the second: a symbolic link on the way
    if strangers:
        raise Unsafe(f"{path} belongs to user {min(strangers)}")
    if info.st_mode & _OTHERS and not info.st_mode & stat.S_ISVTX:
        raise Unsafe(f"{path} can be written by others (mode {stat.S_IMODE(info.st_mode):04o})")


def _require_private(info: os.stat_result, owner: int, name: str) -> None:
    if info.st_uid != owner:
        raise Unsafe(f"{name} belongs to user {info.st_uid}")
    if info.st_mode & 0o077:
        raise Unsafe(f"{name} is open to others (mode {stat.S_IMODE(info.st_mode):04o})")


def _sha256(descriptor: int, also: BinaryIO | None = None) -> str:
    """Return the digest of a file from its beginning, and write what was read to `also`."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_BUFFER_BYTES))
    while count := os.readv(descriptor, [buffer]):
        digest.update(buffer[:count])
        if also is not None:
            also.write(buffer[:count])
    return digest.hexdigest()


def _copy(descriptor: int, target: Path) -> str:
    """Copy a file to where nothing is, and return its digest."""
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as copy:
        return _sha256(descriptor, copy)


def _parse(content: bytes, manifest: str) -> Entry:
    try:
        fields = json.loads(content)
        if fields.pop("format") != FORMAT:
            raise Damaged(f"{manifest} has another format")
        entry = Entry(**fields)
        texts = [entry.key, entry.name, entry.module_sha256, entry.payload_sha256, *entry.collections]
        texts += [digest for digest in entry.collections.values() if digest is not None]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Damaged(f"{manifest} is no manifest") from error
    if not all(isinstance(text, str) for text in texts) or "/" in entry.name:
        raise Damaged(f"{manifest} is no manifest")
    return entry


def _superfluous(files: list[tuple[float, int, str]], now_s: float) -> list[str]:
    """Decide what goes, of files as (last use in s since 1970, bytes, name)."""
    gone, total_bytes = [], 0
    for used_s, size_bytes, name in sorted(files, reverse=True):
        age_s = now_s - used_s
        total_bytes += size_bytes
        if age_s > (_LEFTOVER_S if name.endswith(".tmp") else KEPT_S) or total_bytes > KEPT_BYTES:
            gone.append(name)
    return gone
