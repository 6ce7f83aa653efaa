"""Run a command whose standard streams are closed, lead to nobody, or to a full disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

# How the standard streams of a command may be: `closed` when it starts (2>&-), `broken` (its reader is gone), `full`.
BAD = ("closed", "broken", "full")


def run(
    argv: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None, **bad: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with `stdout` or `stderr` in one of the BAD ways; the other one is captured."""
    with ExitStack() as stack:
        streams = {name: _stream(stack, bad.get(name)) for name in ("stdout", "stderr")}
        closing = [f"{number}>&-" for number, name in ((1, "stdout"), (2, "stderr")) if bad.get(name) == "closed"]
        shell = ["sh", "-c", f'exec "$@" {" ".join(closing)}', "sh"]
        return subprocess.run(
            [*shell, *argv], cwd=cwd, stdin=subprocess.DEVNULL, text=True, timeout=60, check=False,
            env={**os.environ, **(environment or {})}, **streams,
        )  # fmt: skip


def _stream(stack: ExitStack, how: str | None) -> int:
    if how == "full":
        handle = os.open("/dev/full", os.O_WRONLY)
        stack.callback(os.close, handle)
        return handle
    if how == "broken":
        read, write = os.pipe()
        os.close(read)
        stack.callback(os.close, write)
        return write
    return subprocess.PIPE
