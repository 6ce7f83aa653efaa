"""How a release becomes a running slot: one Protocol, two drivers (process, container), and what both share.

A driver knows one slot and one release at a time. It keeps each release's files in a directory of its own,
`slots/<slot>/<key>/`, so that staging a new release leaves the previous one whole until it is no longer wanted.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mcpops.hostside.state import EXIT_UNKNOWN, HostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Release = dict[str, Any]  # a release manifest, as mcpops.deploy.release writes it

LOG_LINES = 20  # enough for a Python traceback, short enough for a terminal
POLL_S = 0.05
STATE_POLL_S = 0.25  # asking docker costs a process start, so it is asked less often than the port
HEALTH_TIMEOUT_S = 2.0
NO_SPACE = ("no space left on device", "os error 28", "disk quota exceeded")


@dataclass(frozen=True)
class Place:
    """One slot of one service on this host: where its files are and where it listens."""

    service: str
    slot: str
    address: str
    port: int
    directory: Path

    @property
    def name(self) -> str:
        """The name under which a supervisor or compose knows this slot."""
        return f"{self.service}-{self.slot}"

    def home(self, release: Release) -> Path:
        """Return the directory of a release's files in this slot."""
        return self.directory / key_of(release)


class Driver(Protocol):
    """Installs, starts and stops releases. Every method raises HostError and leaves the other slot alone."""

    def install(self, place: Place, release: Release, contents: Mapping[str, str]) -> None:
        """Put a release's files into `place.home(release)` and prove its digest; start nothing."""

    def start(self, place: Place, release: Release) -> None:
        """Start an installed release, also at the next boot; returns before it is healthy."""

    def stop(self, place: Place, timeout_s: float) -> bool:
        """End what runs (SIGTERM, after `timeout_s` SIGKILL), also at the next boot; tell whether anything ran."""

    def discard(self, place: Place, release: Release) -> None:
        """Delete one release's files; it does not run."""

    def running(self, place: Place) -> str | None:
        """Return the key of the release that runs, None when nothing does."""

    def logs(self, place: Place, release: Release, lines: int) -> str:
        """Return the last lines that the release wrote."""


def key_of(release: Release) -> str:
    """Return a release's directory name: 64 bits of its digest tell the releases of one slot apart."""
    return str(release["digest"]).partition(":")[2][:16]


def argv_of(release: Release, place: Place, address: str, port: int, home: str) -> list[str]:
    """Return the release's command with its placeholders filled in.

    `{address}`, `{port}`, `{slot}` and `{files}` (the directory of the release's own files) are all there are;
    other braces stay as they are, so JSON in an argument needs no escaping.
    """
    values = {"{address}": address, "{port}": str(port), "{slot}": place.slot, "{files}": home}
    words = []
    for word in release["command"]:
        for placeholder, value in values.items():
            word = word.replace(placeholder, value)  # noqa: PLW2901 - one word, placeholder after placeholder
        words.append(word)
    return words


def command(
    argv: Sequence[str], timeout_s: float, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with its output as text; raises HostError when it is not there or does not end in time."""
    try:
        return subprocess.run(
            list(argv),
            timeout=timeout_s,
            env=dict(env) if env is not None else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise HostError(
            "missing_program", f"{argv[0]} is not there", detail=str(error), hint="run setup for this environment"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise HostError(
            "timeout", f"{Path(argv[0]).name} did not end within {timeout_s:g} s", detail=" ".join(argv[:4])
        ) from error


def failed_command(name: str, message: str, result: subprocess.CompletedProcess[str], hint: str = "") -> HostError:
    """Return the error for a command that failed, with the end of what it said; a full disk is called that."""
    said = "\n".join((result.stderr.strip() or result.stdout.strip()).splitlines()[-LOG_LINES:])
    if any(sign in said.lower() for sign in NO_SPACE):
        return HostError("disk_full", message, detail=said, hint="free space on this host; nothing was switched")
    return HostError(name, message, detail=said, hint=hint)


def require_free_port(place: Place) -> None:
    """Raise HostError `port_in_use`, naming the holder where this user may see it."""
    family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT are no holder
        try:
            probe.bind((place.address, place.port))
            probe.listen(1)
        except OSError as error:
            raise HostError(
                "port_in_use",
                f"slot {place.slot} cannot start: {place.address}:{place.port} is in use",
                detail=holder_of(place.port) or str(error),
                hint="end that process, or give the slot another port in the inventory and run setup",
            ) from error


def holder_of(port: int) -> str:
    """Return `pid 42 (name)` of the process that listens on a TCP port, an empty string when it cannot be seen."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
        except OSError:
            continue
        # Columns of proc(5): 1 local address:port in hexadecimal, 3 state (0A = listening), 9 inode.
        inodes |= {
            f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port
        }
    for process in Path("/proc").glob("[0-9]*"):
        if inodes & set(_open_files(process)):
            return f"pid {process.name} ({(process / 'comm').read_text().strip()})"
    return ""


def _open_files(process: Path) -> Iterator[str]:
    """Yield what a process has open, as far as this user may see it and it is still open."""
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        with suppress(OSError):
            yield str(descriptor.readlink())


def health(place: Place, release: Release, timeout_s: float = HEALTH_TIMEOUT_S) -> tuple[bool, str]:
    """Ask the slot's health path once; return whether the answer was 2xx, and what it was in words."""
    connection = http.client.HTTPConnection(place.address, place.port, timeout=timeout_s)
    try:
        # The MCP SDK refuses other names on a loopback address (protection against DNS rebinding).
        connection.request("GET", release["health_path"], headers={"Host": "localhost"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return False, str(error) or repr(error)
    else:
        return 200 <= status < 300, f"HTTP {status}"
    finally:
        connection.close()


def wait_healthy(driver: Driver, place: Place, release: Release) -> float:
    """Wait until the slot answers its health check and is this release; return the seconds it took.

    Raises HostError `not_started` (it ended by itself) or `not_healthy` (the deadline passed), with the log's tail.
    """
    begun = time.monotonic()
    deadline = begun + float(release["start_timeout_s"])
    asked, saw = begun, "no answer"
    while time.monotonic() < deadline:
        healthy, saw = health(place, release)
        if healthy or time.monotonic() - asked > STATE_POLL_S:
            asked = time.monotonic()
            if driver.running(place) != key_of(release):
                raise HostError(
                    "not_started",
                    f"{release['name']} ended right after its start",
                    detail=driver.logs(place, release, LOG_LINES),
                    hint="the lines above are the release's own log",
                )
            if healthy:
                return time.monotonic() - begun
        time.sleep(POLL_S)
    tail = driver.logs(place, release, LOG_LINES)
    raise HostError(
        "not_healthy",
        f"{release['name']} did not become healthy within {release['start_timeout_s']:g} s",
        detail=f"last answer of {place.address}:{place.port}{release['health_path']}: {saw}\n{tail}".strip(),
        hint="the lines above are the release's own log",
    )


def delete_tree(path: Path) -> None:
    """Delete a directory if it is there; raises HostError when something stays."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(
            "not_removed", f"{path} could not be deleted", detail=str(error), exit_code=EXIT_UNKNOWN
        ) from error
