"""Answer commands line by line over one open channel, so that none of them pays for a process start.

stdin: {"id": any, "argv": [words]} a line, the words as on the command line without the program name.
stdout: {"id": the same, "exit": code, "output": object} a line, in the order asked. Ends at end of file on stdin.
"""

from __future__ import annotations

import json
import sys
from typing import IO, TYPE_CHECKING, Any

from mcpops.hostside import front  # noqa: F401 - imported before the first command asks for it
from mcpops.hostside.main import execute
from mcpops.hostside.state import EXIT_USAGE, HostError

if TYPE_CHECKING:
    import argparse

    from mcpops.hostside.state import Context

# Help is for people, and what reads standard input (`slot stage --manifest -`, `probe`) would eat the next requests.
NOT_HERE = frozenset({"--help", "-h", "-", "--manifest=-", "--preview-token-stdin", "--canary-stdin"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments."""
    del parser


def run(args: argparse.Namespace, context: Context) -> None:
    """Serve stdin to its end. There is no outcome to print: everything has been said line by line."""
    del args
    answer_lines(sys.stdin, sys.stdout, context)


def answer_lines(source: IO[str], sink: IO[str], context: Context) -> None:
    """Answer each line of `source` on `sink`."""
    for line in source:
        if line.strip():
            sink.write(json.dumps(answer(line, context)) + "\n")
            sink.flush()


def answer(line: str, context: Context) -> dict[str, Any]:
    """Return the answer to one line; a line that is no request gets a usage error with id null."""
    identity = None
    try:
        request = json.loads(line)
        identity = request["id"]
        argv = [str(word) for word in request["argv"]]
        if NOT_HERE & set(argv):
            raise ValueError(f"not for this channel: {', '.join(sorted(NOT_HERE & set(argv)))}")
    except (ValueError, KeyError, TypeError) as error:
        usage = HostError("usage", "not a request", detail=repr(error), exit_code=EXIT_USAGE)
        return {"id": identity, "exit": usage.exit_code, "output": usage.as_output()}
    reply = execute(argv, context)
    return {"id": identity, "exit": reply.exit, "output": reply.output}
