"""The Debian packages that the lab needs on this machine; `python -m mcpops.lab.packages` prints them, one a line."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from mcpops.core.errors import Failed

PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "skopeo": "skopeo",
    "htpasswd": "apache2-utils",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "setsid": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "dpkg-deb": "dpkg",
    "curl": "curl",
}
"""Program -> the package that has it."""

APT_PACKAGES = tuple(sorted(set(PROGRAMS.values())))


def check() -> None:
    """Raise Failed, naming what to install, when a program of the lab is missing."""
    missing = sorted(program for program in PROGRAMS if not shutil.which(program))
    if missing:
        wanted = " ".join(sorted({PROGRAMS[program] for program in missing}))
        raise Failed(
            f"the lab needs programs that this machine lacks: {', '.join(missing)}",
            detail="they come from Debian's packages",
            hint=f"apt-get install --no-install-recommends {wanted}",
        )


def find_program(name: str, hint: str) -> str:
    """Return the path of a program that comes as a wheel, or from PATH; raise Failed with `hint` when it is missing."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not found:
        raise Failed(
            f"the lab needs the program {name}, which is not installed",
            detail="looked on PATH and beside the running Python",
            hint=hint,
        )
    return found


if __name__ == "__main__":
    sys.stdout.write("".join(f"{name}\n" for name in APT_PACKAGES))
