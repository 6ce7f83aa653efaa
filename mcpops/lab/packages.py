"""The Debian packages that the lab needs on this machine; `python -m mcpops.lab.packages` prints them, one a line."""

from __future__ import annotations

import shutil
import sys

from mcpops.core.errors import Failed

PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "skopeo": "skopeo",
    "htpasswd": "apache2-utils",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
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


if __name__ == "__main__":
    sys.stdout.write("".join(f"{name}\n" for name in APT_PACKAGES))
