"""Ansible's temporary directories on this host that nobody has removed yet: whoever is killed leaves them otherwise.

Rendered secrets lie in them until the task ends. Sent to hosts: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import Any

# As `mkdtemp` of ansible-core's shell plugins makes them: mkdir "` echo PATH `" && echo NAME="` echo PATH `"
_MADE = re.compile(r'mkdir "` echo (\S+/ansible-tmp-[\d.-]+) `" && echo ansible-tmp-')
_REMOVED = re.compile(r"rm -f -r (\S+/ansible-tmp-[\d.-]+)/? >")
# A job in the background works in its directory after the task ended, and removes it itself.
_BACKGROUND = "async_wrapper"


_DIRECTORY = re.compile(r"/ansible-tmp-[\d.-]+$")


class Scratch:
    """What was made, or filled, through this server, and is its own to remove at the end of the session."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._left_alone: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._paths - self._left_alone)

    def note(self, request: dict[str, Any]) -> None:
        """Take in a request that is about to be done."""
        if request["op"] == "put":
            directory, name = os.path.split(request["path"])
            if _BACKGROUND in name:
                self._left_alone.add(directory)
            elif _DIRECTORY.search(directory):
                self._paths.add(directory)
        elif request["op"] == "shell":
            made, removed = _MADE.search(request["command"]), _REMOVED.search(request["command"])
            if made:
                self._paths.add(os.path.expanduser(made[1]))
            if removed:
                self._paths.discard(os.path.expanduser(removed[1]))

    def remove(self) -> None:
        """Remove what is left."""
        for path in self._paths - self._left_alone:
            shutil.rmtree(path, ignore_errors=True)
