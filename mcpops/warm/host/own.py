"""Ansible's own commands about its temporary directory, done without a shell.

A shell and what it starts take about 10 ms, three times a task that copies. What is not known exactly, and whatever
goes wrong, is left to the shell, which then says what is wrong. Sent to hosts: standard library only, Python 3.9 or
newer. The commands are those of ansible-core's shell plugins (`expand_user`, `mkdtemp`, `remove`).
"""

from __future__ import annotations

import os
import re
import shutil

_PATH = r"((?:~[\w-]*)?/[\w./+-]+)"
_LAST = " && sleep 0"
_HOME = re.compile(r"echo (~[\w-]*)" + _LAST)
_MAKE = re.compile(
    rf'\( umask 77 && mkdir -p "` echo {_PATH} `"&& mkdir "` echo {_PATH} `" && echo ([\w.-]+)="` echo \2 `" \){_LAST}'
)
_REMOVE = re.compile(r"rm -f -r (/[\w./+-]+/ansible-tmp-[\d.-]+)/? > /dev/null 2>&1" + _LAST)


def run(command: str) -> bytes | None:
    """Do what a command says and return what it prints; None when that is left to the shell."""
    home, make, remove = (shape.fullmatch(command) for shape in (_HOME, _MAKE, _REMOVE))
    if "HOME" not in os.environ:
        return None
    try:
        if home:
            return os.fsencode(os.path.expanduser(home[1])) + b"\n"
        if make:
            return _make(*(os.path.expanduser(path) for path in make.groups()))
        if remove:
            return _remove(remove[1])
    except OSError:
        pass
    return None


def _make(parent: str, path: str, name: str) -> bytes | None:
    if "~" in parent + path:  # no such user
        return None
    before = os.umask(0o77)
    try:
        os.makedirs(parent, exist_ok=True)
        os.mkdir(path)
    finally:
        os.umask(before)
    return os.fsencode(f"{name}={path}\n")


def _remove(path: str) -> bytes:
    if os.path.lexists(path):
        shutil.rmtree(path)
    return b""
