"""What a run left on a host: run there by `python3 -`, it prints JSON. Twins must agree in it after the two ways.

Standard library only. What it leaves out, it leaves out for the reason beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import stat
from pathlib import Path

PLACES = (
    "/dev/shm",
    "/etc",
    "/home",
    "/opt",
    "/root",
    "/run/lock",
    "/srv",
    "/tmp",
    "/usr/lib/python3",
    "/usr/local",
    "/var/spool/cron",
    "/var/tmp",
)
# Their content is a host's own, or says when a run was; that they are there, and whose, is compared.
OWN = {
    "/etc/docker/key.json": "made by Docker at its first start",
    "/etc/ssh/ssh_host_ed25519_key": "made for each host",
    "/etc/ssh/ssh_host_ed25519_key.pub": "made for each host",
    "/etc/systemd/network/10-host0.network": "its address",
}
OWN_PARTS = (
    ".pyc",  # holds the time of its source
    "/.ansible_async/",  # holds times and numbers of processes
)
# They come and go with services that start when somebody asks.
OF_SERVICES = ("/tmp/systemd-private-", "/var/tmp/systemd-private-")
OWN_LINE = b"# (/"  # crontab says from which temporary file it took a table, and when
# Sessions of ssh that live a while longer than a run, and whoever looks.
OF_SESSIONS = ("sshd", "(sd-pam)", "/lib/systemd/systemd", "python3 -", "bash -c python3 -", "sh -c python3 -")


def entry(path: Path) -> list[str]:
    """Return kind, mode, owner, group and content of a file, content as a digest."""
    seen = path.lstat()
    content = ""
    if stat.S_ISLNK(seen.st_mode):
        content = str(path.readlink())
    elif stat.S_ISREG(seen.st_mode) and str(path) not in OWN and not any(part in str(path) for part in OWN_PARTS):
        lines = path.read_bytes().splitlines(keepends=True)
        content = hashlib.sha256(b"".join(line for line in lines if not line.startswith(OWN_LINE))).hexdigest()
    return [stat.filemode(seen.st_mode), str(seen.st_uid), str(seen.st_gid), content]


def files() -> dict[str, list[str]]:
    """Return what lies in the places that modules write to."""
    found = {}
    for place in PLACES:
        for at, directories, names in os.walk(place):
            for path in (Path(at) / name for name in (*directories, *names)):
                if str(path).startswith(OF_SERVICES):
                    continue
                try:
                    found[str(path)] = entry(path)
                except FileNotFoundError:
                    continue  # gone between two looks
    return found


def processes() -> list[str]:
    """Return user and command line of all that runs."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            owner = pwd.getpwuid(directory.stat().st_uid).pw_name
        except (OSError, KeyError):
            continue
        if words and not words.startswith(OF_SESSIONS):
            found.append(f"{owner}: {words}")
    return sorted(found)


if __name__ == "__main__":
    print(json.dumps({"files": files(), "processes": processes()}))
