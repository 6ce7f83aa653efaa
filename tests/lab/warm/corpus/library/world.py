#!/usr/bin/python
"""Ansible module of the corpus: say all that a module can see of the process it runs in."""

# As Ansible's own modules do it, which also meet paths that are no text:
# ruff: noqa: PTH109, PTH111, PTH115, PTH123, PTH208

from __future__ import annotations

import gc
import getpass
import grp
import locale
import os
import pwd
import resource
import signal
import socket
import sys
import tempfile
import threading
import time

from ansible.module_utils.basic import AnsibleModule

import __main__

# These name the connection or the session, which no two runs share.
SESSION = ("SSH_CLIENT", "SSH_CONNECTION", "XDG_SESSION_ID")
SIGNALS = sorted(signal.Signals, key=lambda number: number.value)


def identity():
    """User, groups, and what the libraries make of them."""
    return {
        "ids": [os.getresuid(), os.getresgid()],
        "groups": sorted(os.getgroups()),
        "group_names": sorted(group.gr_name for group in map(_group, os.getgroups()) if group),
        "user": getpass.getuser(),
        "home": os.path.expanduser("~"),
        "shell": pwd.getpwuid(os.getuid()).pw_shell,
    }


def _group(number):
    try:
        return grp.getgrgid(number)
    except KeyError:
        return None


def environment(variables):
    """All names, and the values of those asked for."""
    return {
        "names": sorted(name for name in os.environ if name not in SESSION),
        "values": {name: os.environ.get(name) for name in variables},
    }


def process():
    """What the kernel keeps for a process and a child of it inherits."""
    mask = os.umask(0o77)
    os.umask(mask)
    return {
        "cwd": os.getcwd(),
        "umask": oct(mask),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "scheduler": os.sched_getscheduler(0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "leads_session": os.getsid(0) == os.getpid(),
        "leads_group": os.getpgrp() == os.getpid(),
        "terminals": [os.isatty(number) for number in range(3)],
        "terminal": _terminal(),
        "descriptors": _descriptors(),
        "limits": {
            name: list(resource.getrlimit(getattr(resource, name)))
            for name in sorted(dir(resource))
            if name.startswith("RLIMIT_")
        },
        "status": _status(),
        "out_of_memory_score": _read("/proc/self/oom_score_adj"),
        "security": _read("/proc/self/attr/current"),
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") == os.readlink(f"/proc/{os.getppid()}/ns/{name}")
                       for name in ("mnt", "net", "pid", "user", "uts")} if os.getuid() == 0 else {},
    }  # fmt: skip


def _terminal():
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError as error:
        return error.strerror
    return "there"


def _descriptors():
    """What is open: the kind of the first three, and the numbers of any other."""
    numbers = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    opened = {number: _target(number) for number in numbers}
    kinds = {number: target.split(":")[0] for number, target in opened.items() if number < 3}
    more = [target for number, target in opened.items() if number > 2 and not target.startswith("/proc/")]
    return {"standard": kinds, "more": [target for target in more if target]}


def _target(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""  # the one that listed the directory


def _status():
    """Signals and rights as the kernel has them: what is blocked, ignored, caught, and what root may do."""
    wanted = ("SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    lines = (line.split(":", 1) for line in _read("/proc/self/status").splitlines())
    return {name: value.strip() for name, value in lines if name in wanted}


def _read(path):
    try:
        with open(path, "rb") as handle:
            return handle.read().decode(errors="replace").strip("\0\n")
    except OSError as error:
        return error.strerror


def interpreter():
    """The Python: where it is, what it looks for, and how it was started."""
    return {
        "executable": sys.executable,
        "prefixes": [sys.prefix, sys.base_prefix, sys.exec_prefix],
        "version": sys.version,
        "flags": str(sys.flags),
        "path": sys.path,
        "arguments": sys.argv,
        "original_arguments": getattr(sys, "orig_argv", None),
        "warning_options": sys.warnoptions,
        "x_options": {key: str(value) for key, value in sys._xoptions.items()},
        "no_bytecode": sys.dont_write_bytecode,
        "hooks": [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__],
        "meta_path": " ".join(getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path),
        "path_hooks": " ".join(getattr(hook, "__name__", "") for hook in sys.path_hooks),
        "limits": [sys.getrecursionlimit(), sys.getswitchinterval()],
        "collector": [gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.get_freeze_count()],
        "threads": [thread.name for thread in threading.enumerate()],
        "signals": {number.name: str(signal.getsignal(number)) for number in SIGNALS},
        "traced": [sys.gettrace() is None, sys.getprofile() is None],
    }


def main_module():
    """The module named __main__, as code that looks at itself finds it."""
    return {
        "name": __main__.__name__,
        "file": getattr(__main__, "__file__", None),
        "package": __main__.__package__,
        "spec": getattr(__main__.__spec__, "name", None),
        "loader": type(__main__.__loader__).__name__,
        "doc": __main__.__doc__,
        "own_names": sorted(name for name in vars(__main__) if name.startswith("_")),
        "is_this": sys.modules["__main__"].main is main,
        "utils_file": sys.modules["ansible.module_utils.basic"].__file__,
        "utils": sorted(name for name in sys.modules if name.startswith("ansible")),
    }


def text():
    """Encodings, language and the time zone."""
    return {
        "encodings": [sys.getfilesystemencoding(), sys.getdefaultencoding(), locale.getpreferredencoding(False)],
        "streams": [[getattr(stream, name, None) for name in ("name", "mode", "encoding", "errors", "line_buffering")]
                    for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "same_streams": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
        "language": [locale.setlocale(category, None) for category in (locale.LC_CTYPE, locale.LC_COLLATE)],
        "read": None if os.isatty(0) else sys.stdin.read(),  # a terminal never ends
        "zone": [time.tzname, time.timezone, time.localtime(1_800_000_000)[:6]],
        "temporary": tempfile.gettempdir(),
        "host": [socket.gethostname(), os.uname().nodename],
    }  # fmt: skip


def main():
    module = AnsibleModule(
        argument_spec={
            "variables": {"type": "list", "elements": "str", "default": []},
            "only": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    seen = {
        "identity": identity(),
        "environment": environment(module.params["variables"]),
        "process": process(),
        "interpreter": interpreter(),
        "main": main_module(),
        "text": text(),
    }
    only = module.params["only"] or list(seen)
    module.exit_json(changed=False, **{name: seen[name] for name in only})


if __name__ == "__main__":
    main()
