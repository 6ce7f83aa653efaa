"""What a lab needs of this machine that no package brings: root, Debian, and a kernel with IPv6."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from mcpops.core.errors import Failed, McpopsError, Refused

IPV6 = Path("/proc/sys/net/ipv6/conf/all/forwarding")
_EMBEDDED = "or use the embedded default: make demo"


def lacks() -> McpopsError | None:
    """Return what this machine lacks for a lab, as the error to raise; None when it can have one."""
    if os.geteuid() != 0:
        return no_root()
    if system() != "debian":
        return Failed(
            "the lab needs Debian",
            detail=f"its hosts are built from the machine's own package source; this is {system() or 'not known'}",
            hint=f"run on Debian, {_EMBEDDED}",
        )
    if not os.access(IPV6, os.W_OK):  # also false where it cannot be set: /proc/sys is read-only in most containers
        return Failed(
            "the lab needs a kernel with IPv6",
            detail=f"{IPV6} is not there, or cannot be written; hosts have addresses of both families",
            hint=f"start the machine without ipv6.disable=1 (a container: privileged), {_EMBEDDED}",
        )
    return None


def no_root() -> Refused:
    """Return the error of a lab without root."""
    return Refused(
        "the lab needs root",
        detail="it makes network namespaces, mounts and cgroups",
        hint=f"run as root on Debian, {_EMBEDDED}",
    )


def system() -> str:
    """Return the ID of os-release, such as `debian`; empty where there is none."""
    try:
        return platform.freedesktop_os_release().get("ID", "")
    except OSError:
        return ""
