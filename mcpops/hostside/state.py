"""The state directory of one service on one host: its lock, its fence, its small files.

Every command works under `locked`, and every command that changes something calls `require_fence` first. Files are
written to a temporary name, fsynced and renamed, so that a crash leaves the old file or the new one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# The CLI's table of exit codes (cli.md); a host only ever answers with these.
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNKNOWN = 3
EXIT_BUSY = 4
EXIT_FENCED = 8
EXIT_REFUSED = 9
EXIT_INTERNAL = 10

SLOTS = ("blue", "green")
NO_SLOT = "none"

# The lock is held for milliseconds, so one that stays taken for this long is a fault worth telling.
LOCK_DEADLINE_S = 10.0
LOCK_POLL_S = 0.002


# Disk that is given back when there is none left: going back writes a few files of less than a page each.
RESERVE = "reserve"
RESERVE_BYTES = 65_536
FULL = (errno.ENOSPC, errno.EDQUOT)


class HostError(Exception):
    """An answer that is an error: printed as {"error": {...}} with its exit code.

    `data` holds further keys of the answer beside "error" (what is there instead, what was already written).
    """

    def __init__(
        self,
        name: str,
        message: str,
        *,
        detail: str = "",
        hint: str = "",
        exit_code: int = EXIT_FAILED,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.detail = detail
        self.hint = hint
        self.exit_code = exit_code
        self.data: dict[str, Any] = dict(data or {})

    def as_output(self) -> dict[str, Any]:
        """Return the JSON object that is printed for this error."""
        error = {"name": self.name, "message": self.message, "detail": self.detail, "hint": self.hint}
        return {"changed": False, **self.data, "error": error}


@dataclass(frozen=True)
class Outcome:
    """An answer that is not an error: whether something changed, and the other keys of the answer."""

    changed: bool
    data: dict[str, Any] = field(default_factory=dict)

    def as_output(self) -> dict[str, Any]:
        """Return the JSON object that is printed for this outcome."""
        return {"changed": self.changed, **self.data}


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(timezone.utc)  # noqa: UP017 - datetime.UTC came with Python 3.11, hosts may have 3.9


@dataclass(frozen=True)
class Context:
    """Who asks, where the state is, and what the time is."""

    state_dir: Path
    run: str | None = None
    fence: int | None = None
    check: bool = False
    now: Callable[[], datetime] = utc_now

    def path(self, *parts: str) -> Path:
        """Return a path inside the state directory."""
        return self.state_dir.joinpath(*parts)

    def timestamp(self) -> str:
        """Return the time now as RFC 3339 text in UTC, with milliseconds."""
        return self.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")


def failpoint(name: str) -> None:
    """End this process with SIGKILL when MCPOPS_FAILPOINT names this point (crash tests set it, nothing else does)."""
    if os.environ.get("MCPOPS_FAILPOINT") == name:
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def locked(context: Context, deadline_s: float = LOCK_DEADLINE_S) -> Iterator[None]:
    """Hold the state directory's lock. The kernel frees it when the process ends, however that happens.

    Raises HostError `not_set_up` when there is no state directory, `locked` (exit 4) when the deadline passes.
    """
    try:
        descriptor = os.open(context.path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise not_set_up(context, str(error)) from error
    except OSError as error:
        raise write_error(context.path("lock"), error) from error
    try:
        _take(descriptor, context, deadline_s)
        try:
            yield
        finally:
            # Said explicitly: a forked guard shares the open file, so closing our descriptor alone would not free it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _take(descriptor: int, context: Context, deadline_s: float) -> None:
    """Take the lock or raise HostError `locked` after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise HostError(
                    "locked",
                    f"another command has held the lock of {context.state_dir} for {deadline_s:g} s",
                    hint=f"see who holds it: fuser -v {context.path('lock')}",
                    exit_code=EXIT_BUSY,
                ) from None
            time.sleep(LOCK_POLL_S)
        else:
            return


def not_set_up(context: Context, detail: str = "") -> HostError:
    """Return the error for a state directory that the role `front` has not made yet."""
    return HostError(
        "not_set_up",
        f"{context.state_dir} holds no service",
        detail=detail,
        hint="run the role `front` on this host first, or correct --state",
        exit_code=EXIT_USAGE,
    )


def require_fence(context: Context) -> None:
    """Refuse a stale controller; remember a newer one before it acts. Call it under `locked`.

    A lower fence than the stored one, or the same fence with another run, is refused with exit 8. A higher one is
    stored first, unless this is a check.
    """
    if context.fence is None or not context.run:
        raise HostError("usage", "this command changes something and needs --run and --fence", exit_code=EXIT_USAGE)
    stored = read_json(context.path("fence"), default={"fence": 0, "run": None})
    fence, run = int(stored.get("fence", 0)), stored.get("run")
    if context.fence < fence or (context.fence == fence and run is not None and run != context.run):
        raise HostError(
            "fenced",
            f"run {context.run} with fence {context.fence} has lost its right to act here",
            detail=f"run {run} holds fence {fence}",
            hint="stop this run; the newer one is in charge of this host",
            exit_code=EXIT_FENCED,
            data={"fence": fence, "run": run},
        )
    if (context.fence, context.run) != (fence, run) and not context.check:
        write_json(context.path("fence"), {"fence": context.fence, "run": context.run})


def keep_reserve(context: Context) -> None:
    """Set disk aside, so that a front can go back on the day that its disk is full. A full disk is no error here."""
    path = context.path(RESERVE)
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            path.unlink()
        finally:
            os.close(descriptor)


def spend_reserve(path: Path, error: OSError) -> bool:
    """Give the reserve back to the disk when it is full and `path` is one of the service's own small files.

    Tell whether that made room. What a release brings with it lies deeper, and gets nothing of it.
    """
    home = path.parent.parent if path.parent.name == "slots" else path.parent
    if error.errno not in FULL:
        return False
    try:
        (home / RESERVE).unlink()
    except OSError:
        return False
    return True


def write_error(path: Path, error: OSError) -> HostError:
    """Return the error for a file that could not be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return HostError(
        "disk_full" if full else "not_written",
        f"{path} could not be written: {error.strerror or error}",
        detail=f"errno {errno.errorcode.get(error.errno or 0, '?')}",
        hint=f"free space on the file system of {path.parent}" if full else f"check owner and mode of {path.parent}",
    )


def stage_file(path: Path, content: bytes, mode: int = 0o600, *, durable: bool = True) -> Path:
    """Write `content` beside `path` and fsync it (if durable); return the temporary file, ready for `put_in_place`.

    Leaves nothing behind when it fails. Raises HostError `disk_full` or `not_written`.
    """
    try:
        return _stage(path, content, mode, durable=durable)
    except OSError as error:
        if not spend_reserve(path, error):
            raise write_error(path, error) from error
    try:
        return _stage(path, content, mode, durable=durable)
    except OSError as error:
        raise write_error(path, error) from error


def _stage(path: Path, content: bytes, mode: int, *, durable: bool) -> Path:
    """Do it once; raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _remove_abandoned(path)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def _remove_abandoned(path: Path) -> None:
    """Remove what processes that were killed while they wrote this file have left."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        pid = left.name.split(".")[-2]
        if pid == str(os.getpid()) or not Path("/proc", pid).exists():
            left.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Rename a staged file over `path`; if durable, fsync the directory, so that the new name survives a power cut."""
    try:
        temporary.replace(path)
        if not durable:
            return
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise write_error(path, error) from error


def write_atomic(path: Path, content: bytes, mode: int = 0o600, *, durable: bool = True) -> None:
    """Replace a file by `content`: the old one or the new one is there at any moment, never half of one."""
    put_in_place(stage_file(path, content, mode, durable=durable), path, durable=durable)


def write_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Replace a JSON file (mode 0600)."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode(), durable=durable)


def read_json(path: Path, default: Any = None) -> Any:  # noqa: ANN401 - JSON has no better type
    """Return a JSON file's content; `default` when there is no such file.

    Raises HostError `unreadable` when the file is not JSON or cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise HostError("unreadable", f"{path} cannot be read", detail=str(error), exit_code=EXIT_UNKNOWN) from error


def read_map(path: Path) -> dict[str, str]:
    """Return a HAProxy map file as a mapping; lines that start with # and empty lines are not part of it.

    Raises HostError `unreadable` when it is missing or a line has no value.
    """
    try:
        lines = path.read_text().splitlines()
        pairs = [line.split(None, 1) for line in lines if line.strip() and not line.lstrip().startswith("#")]
        return {key: value.strip() for key, value in pairs}
    except (OSError, ValueError) as error:
        raise HostError(
            "unreadable",
            f"the map {path} cannot be read",
            detail=str(error),
            hint="the role `front` creates it; a broken one can be restored from history.jsonl",
            exit_code=EXIT_UNKNOWN,
        ) from error


def map_bytes(content: Mapping[str, str]) -> bytes:
    """Return the file of a map, one `key value` line each."""
    return "".join(f"{key} {value}\n" for key, value in content.items()).encode()
