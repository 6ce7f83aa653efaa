"""The forked child of a warm server: it becomes what ssh would have started, reads its own input, and does one thing.

Sent to hosts: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import runpy  # noqa: F401 - what every module needs, imported once
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from importlib.machinery import FileFinder
from typing import Any, NoReturn, cast

from mcpops.warm.host.payloads import Payload, Warmth
from mcpops.warm.host.session import Gone, read, write

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run(request: dict[str, Any], warmth: Warmth, out: int, error: int, server: int) -> NoReturn:
    """Do what a request asks for, with output to these pipes, and end as the program would have ended.

    It never returns, whatever happens: above are the server's own frames.
    """
    code = 1
    try:
        _prepare(out, error, server)
        if request["op"] == "module":
            code = _module(request, warmth.payloads[request["digest"]], warmth)
        elif request["op"] == "put":
            code = _put(request)
        else:
            _no_input()
            os.execv("/bin/sh", ["/bin/sh", "-c", request["command"]])  # noqa: S606 - Ansible's own words, for sh
    except Gone:
        os._exit(1)
    except BaseException:  # noqa: BLE001 - as Python ends with any
        traceback.print_exc()
    finally:
        _end(code)


def _prepare(out: int, error: int, server: int) -> None:
    """Be as a process that ssh has just started: signals, standard files, zone, no descriptor of the server's.

    And end with the server, if that is killed: it could not end this one.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server:
        os._exit(1)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(out, 1)
    os.dup2(error, 2)
    gc.enable()
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
    time.tzset()


def _no_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _put(request: dict[str, Any]) -> int:
    data = read(request["size"])
    handle = os.open(request["path"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, request["mode"])
    write(handle, data)
    os.close(handle)
    return 0


def _module(request: dict[str, Any], payload: Payload, warmth: Warmth) -> int:
    """Run a module as Ansible's wrapper does; return the code that Python would end with."""
    environment = read(request["environment"])
    parameters = read(request["size"] - request["environment"])
    _no_input()
    os.environ.update(json.loads(bytes(environment)))
    _as_the_wrapper(request["nofile"])
    _as_a_new_python(payload)
    warmth.enter(payload)
    try:
        from ansible.module_utils._internal._ansiballz import _loader  # noqa: PLC0415 - of this payload

        _loader.run_module(
            json_params=bytes(parameters),
            profile=request["profile"],
            module_fqn=request["fqn"],
            modlib_path=payload.path,
            extensions={},
        )
    except SystemExit as error:
        _flush()
        return _code(error.code)
    except BaseException as error:  # noqa: BLE001 - as Python ends with any
        _flush()
        traceback.print_exc()
        return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1  # as the shell around it says
    _flush()
    return 0


def _flush() -> None:
    """Do what Python does first when a program's text has ended, before threads and exit handlers (pythonrun.c)."""
    for file in (sys.stderr, sys.stdout):
        with suppress(Exception):
            file.flush()


def _as_the_wrapper(files: int) -> None:
    """Do what Ansible's wrapper does before it imports anything: a directory that is there, a limit of open files."""
    import resource  # noqa: PLC0415 - as the wrapper has it

    try:
        os.getcwd()
    except OSError:
        try:
            os.chdir(os.path.expanduser("~"))
        except OSError:
            os.chdir("/")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files and min(hard, files) != soft:
        with suppress(ValueError):  # some systems lie about their hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, files), hard))


def _as_a_new_python(payload: Payload) -> None:
    """Set what an interpreter that reads its program from standard input has, and forget what was not there before."""
    sys.argv = [""]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [sys.executable]
    sys.stdin = open(0, encoding=sys.stdin.encoding, errors=sys.stdin.errors, closefd=False)  # noqa: SIM115
    cast(Any, sys.stdin.buffer).raw.name = "<stdin>"
    sys.__stdin__ = sys.stdin  # type: ignore[misc]
    for path, finder in list(sys.path_importer_cache.items()):
        if finder is None:
            del sys.path_importer_cache[path]
        elif isinstance(finder, FileFinder):
            finder.invalidate_caches()  # a directory that changed twice within a clock tick looks as if it had not
    sys.path[:] = [payload.path, *(path for path in sys.path if path not in ("", "."))]


def _code(code: object) -> int:
    """Return what Python makes of the argument of sys.exit."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def _end(code: int) -> NoReturn:
    """End as Python ends: threads, exit handlers, buffers."""
    try:
        try:
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
        except BaseException:  # noqa: BLE001 - as Python ends with any
            traceback.print_exc()
        for file in (sys.stdout, sys.stderr):
            try:
                file.flush()
            except (OSError, ValueError) as error:
                code = 120  # as Python does when it cannot flush
                if file is sys.stdout:
                    os.write(2, f"Exception ignored in: {file!r}\n{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)
