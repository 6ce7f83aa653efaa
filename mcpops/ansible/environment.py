"""The environment of everything of Ansible's that mcpops starts: a few of our own variables, and no more."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

# The rest (database URLs, tokens) is nobody's business there: ansible-runner keeps the whole environment of a
# play in artifacts/*/command, and any task can print it.
_KEPT = ("HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "TZ", "XDG_RUNTIME_DIR", "TMPDIR")
# A path and no secret; made absolute, because a play runs in another directory.
_VAULT = "ANSIBLE_VAULT_PASSWORD_FILE"


def minimal_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return a whole environment: what a play needs of ours, UTF-8, this Python's programs first, and `more`."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    if _VAULT in os.environ:
        environment[_VAULT] = str(Path(os.environ[_VAULT]).expanduser().absolute())
    programs = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    return environment | {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"} | dict(more)
