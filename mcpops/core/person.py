"""Who acts: the name that the record keeps of a person."""

from __future__ import annotations

import os
import pwd


def whoami() -> str:
    """Return the person who acts: the user that the kernel knows, or the one behind sudo when that is root.

    Anybody can set an environment variable, so only root's word about who called it counts. A user without a name
    (a container that runs as some number) is told by the number.
    """
    behind = os.environ.get("SUDO_USER") if os.getuid() == 0 else None
    return behind or account()


def account() -> str:
    """Return the name of the account that this process runs as, as ssh finds it; its number where it has no name."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
