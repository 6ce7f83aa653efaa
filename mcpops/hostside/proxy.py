"""HAProxy's runtime API on its admin socket: maps, counters, session tables.

Documented in HAProxy's management guide, chapter 9.3; the same for 2.6 and 2.8.
"""

from __future__ import annotations

import csv
import io
import os
import re
import socket
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The API answers within a millisecond or the process is in trouble.
ANSWER_TIMEOUT_S = 3.0
# -1 4 -1: every proxy, servers only, every server
SHOW_SERVERS = "show stat -1 4 -1"
# sun_path holds 108 bytes including the final zero (unix(7)).
LONGEST_SOCKET_PATH = 107


class ProxyDown(Exception):
    """Nobody answers on the admin socket."""


class ProxyRefused(Exception):
    """The proxy answered, and not with what was asked for."""


@dataclass(frozen=True)
class ServerRow:
    """One line of `show stat` for a server: its state and its counters since the proxy started."""

    backend: str
    server: str
    status: str
    check: str
    open_count: int
    responses_5xx: int
    connect_errors: int
    response_errors: int
    redispatches: int

    @property
    def down(self) -> bool:
        """Whether the proxy sends it nothing (UP 1/2 is still up, DOWN 1/2 still down)."""
        return self.status.startswith(("DOWN", "MAINT", "NOLB"))

    @property
    def checked(self) -> bool:
        """Whether a health check has ended since the proxy started: until then UP is only what it assumes.

        And the first check that fails takes the server out, however many may fail later (HAProxy's configuration
        manual, `init-state`, which only 3.1 and later can change).
        """
        return self.check.removeprefix("* ") not in ("", "INI")

    @property
    def errors(self) -> int:
        """Every request that this server spoiled."""
        return self.responses_5xx + self.connect_errors + self.response_errors + self.redispatches


@dataclass(frozen=True)
class Proxy:
    """A HAProxy, by its admin socket."""

    admin_socket: Path

    def say(self, command: str) -> str:
        """Return the answer to one line of commands (separated by `;`). Raises ProxyDown."""
        try:
            with closing(self._connect()) as api:
                api.sendall(command.encode() + b"\n")
                return b"".join(iter(lambda: api.recv(65536), b"")).decode()
        except OSError as error:
            raise ProxyDown(f"{self.admin_socket}: {error.strerror or error}") from error

    def _connect(self) -> socket.socket:
        """Connect to the socket, also when its path is longer than an address may be."""
        api = socket.socket(socket.AF_UNIX)
        api.settimeout(ANSWER_TIMEOUT_S)
        path = str(self.admin_socket)
        try:
            if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
                api.connect(path)
            else:
                directory = os.open(self.admin_socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    api.connect(f"/proc/self/fd/{directory}/{self.admin_socket.name}")
                finally:
                    os.close(directory)
        except OSError:
            api.close()
            raise
        return api

    def read_map(self, path: Path) -> dict[str, str]:
        """Return the running copy of a map. Raises ProxyDown, ProxyRefused."""
        return _entries(self.say(f"show map {path}"), path)

    def write_map(self, path: Path, want: Mapping[str, str]) -> None:
        """Replace the running copy of a map in one transaction, and read it back.

        A request sees the old map or the new one, never half of one. Raises ProxyDown, ProxyRefused.
        """
        created = self.say(f"prepare map {path}").strip()
        version = re.fullmatch(r"New version created: (\d+)", created)
        if not version:
            raise ProxyRefused(f"prepare map {path}: {created}")
        number = version.group(1)
        lines = [f"add map @{number} {path} {key} {value}" for key, value in want.items()]
        complaint = self.say("; ".join(lines)) if lines else ""  # 2.6 calls an empty command unknown
        if complaint.strip():
            raise ProxyRefused(f"add map {path}: {complaint.strip()}")
        got = _entries(self.say(f"commit map @{number} {path}; show map {path}"), path)
        if got != want:
            raise ProxyRefused(f"{path} holds {got} after the commit of {dict(want)}")

    def servers(self) -> dict[tuple[str, str], ServerRow]:
        """Return the state of every server by (backend, server). Raises ProxyDown, ProxyRefused."""
        return _servers(self.say(SHOW_SERVERS))

    def watch(self, path: Path) -> tuple[dict[str, str], dict[tuple[str, str], ServerRow]]:
        """Return the running copy of a map and the state of every server, of one moment.

        Raises ProxyDown, ProxyRefused.
        """
        entries, header, stat = self.say(f"show map {path}; {SHOW_SERVERS}").partition("# pxname")
        return _entries(entries, path), _servers(header + stat)

    def old_workers(self) -> list[int]:
        """Return the processes that a reload left behind to end what they have open; nobody counts that here.

        They are the other children of the master that started the process which answers. Raises ProxyDown,
        ProxyRefused.
        """
        told = re.search(r"^Pid: (\d+)$", self.say("show info"), re.MULTILINE)
        if not told:
            raise ProxyRefused("show info tells no pid")
        current = int(told.group(1))
        parents = dict(_processes())
        siblings = [pid for pid, parent in parents.items() if parent == parents.get(current, -1)]
        return [pid for pid in siblings if pid != current and _program(pid) == _program(current)]

    def sessions(self, slot: str, remaining_above_ms: int = -1) -> int:
        """Return how many sessions of a slot were heard of in the table's idle period and have not been deleted.

        An entry lives for the idle period after its last request; `remaining_above_ms` counts only those that have
        more than that left. Raises ProxyDown, ProxyRefused.
        """
        text = self.say(f"show table sess_{slot} data.gpt0 eq 0")
        if not text.startswith(f"# table: sess_{slot},"):
            raise ProxyRefused(f"show table sess_{slot}: {text[:200].strip()}")
        remaining_ms = [int(value) for value in re.findall(r"^0x.*? exp=(\d+)", text, re.MULTILINE)]
        return sum(1 for value in remaining_ms if value > remaining_above_ms)


def _servers(text: str) -> dict[tuple[str, str], ServerRow]:
    """Parse `show stat`."""
    rows = list(csv.DictReader(io.StringIO(text.lstrip("# "))))
    try:
        return {(row["pxname"], row["svname"]): _server_row(row) for row in rows if row["pxname"]}
    except (KeyError, ValueError) as error:
        raise ProxyRefused(f"show stat: {error!r} in {text[:200]!r}") from error


def _processes() -> Iterator[tuple[int, int]]:
    """Yield each living process with its parent (proc(5): fields 3 and 4 of stat, counted after the name)."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = path.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError, ValueError):
            continue
        if state != "Z":
            yield int(path.parent.name), int(parent)


def _program(pid: int) -> str:
    """Return the name of a process's program, an empty text when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _entries(text: str, path: Path) -> dict[str, str]:
    """Parse `show map`: one `0x55d2c0ffee time green` a line."""
    lines = [line for line in text.splitlines() if line.strip()]
    words = [line.split(None, 2) for line in lines]
    if any(len(parts) != 3 or not parts[0].startswith("0x") for parts in words):
        raise ProxyRefused(f"{path}: {lines[0]}")
    return {parts[1]: parts[2].strip() for parts in words}


def _server_row(row: Mapping[str, str]) -> ServerRow:
    """Turn one CSV row into a ServerRow; an empty counter is 0."""
    return ServerRow(
        backend=row["pxname"],
        server=row["svname"],
        status=row["status"],
        check=row["check_status"],
        open_count=int(row["scur"] or 0),
        responses_5xx=int(row["hrsp_5xx"] or 0),
        connect_errors=int(row["econ"] or 0),
        response_errors=int(row["eresp"] or 0),
        redispatches=int(row["wredis"] or 0),
    )
