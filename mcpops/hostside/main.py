"""The host-side program: `python3 -I hostside.pyz --state DIR [--run ID] [--fence N] [--check] VERB ...`.

One JSON object on stdout and an exit code of the CLI's table, always. The verbs stand in VERBS; a verb's module is
imported only when it is asked for, because each start of the program compiles what it imports. A verb's module has

    add_arguments(parser)          declares its arguments (and its own sub-verbs, if any)
    run(args, context) -> Outcome  does it, or raises HostError (None: it has printed everything itself)
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mcpops.hostside.state import EXIT_INTERNAL, EXIT_OK, EXIT_USAGE, Context, HostError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = {
    "status": "mcpops.hostside.status",
    "front": "mcpops.hostside.front",
    "slot": "mcpops.hostside.slots",
    "release": "mcpops.hostside.releases",
    "probe": "mcpops.hostside.probe",
    "serve": "mcpops.hostside.serve",
}


@dataclass(frozen=True)
class Reply:
    """What one command answers: its exit code and its JSON object."""

    exit: int
    output: dict[str, Any]


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is a HostError instead of text on stderr."""

    def error(self, message: str) -> NoReturn:
        """Raise HostError `usage` (exit 2)."""
        raise HostError("usage", message, detail=self.format_usage().strip(), hint="see --help", exit_code=EXIT_USAGE)


def head_parser() -> Parser:
    """Return the parser of what stands before the verb."""
    parser = Parser(prog="hostside", description="mcpops, host side: slots and front of one service", add_help=False)
    parser.add_argument("--state", type=Path, help="state directory of the service")
    parser.add_argument("--run", help="id of the run that asks (commands that change something need it)")
    parser.add_argument("--fence", type=int, help="fence number of the run (commands that change something need it)")
    parser.add_argument("--check", action="store_true", help="say what would change, change nothing")
    parser.add_argument("verb", choices=sorted(VERBS))
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    return parser


def execute(argv: Sequence[str], base: Context | None = None) -> Reply:
    """Run one command line and return its reply; never raises for a mistake of the caller.

    `base` gives the state directory when the command line does not (commands that come through `serve`).
    """
    try:
        return _execute(list(argv), base)
    except HostError as error:
        return Reply(error.exit_code, error.as_output())
    except Exception as error:  # noqa: BLE001 - the last line: a bug must answer as JSON too
        traceback.print_exc()
        return Reply(
            EXIT_INTERNAL,
            HostError("internal", f"a bug in hostside: {error!r}", detail=traceback.format_exc(limit=-3)).as_output(),
        )


def _execute(argv: list[str], base: Context | None) -> Reply:
    """Parse and dispatch one command line."""
    head = head_parser().parse_args(argv)
    if head.verb == "serve" and base is not None:
        raise HostError("usage", "serve inside serve", exit_code=EXIT_USAGE)
    rest = [word for word in head.rest if word != "--check"]
    module = importlib.import_module(VERBS[head.verb])
    parser = Parser(prog=f"hostside {head.verb}", description=module.__doc__.splitlines()[0] if module.__doc__ else "")
    module.add_arguments(parser)
    args = parser.parse_args(rest)
    state_dir = head.state or (base.state_dir if base else None)
    if state_dir is None:
        raise HostError("usage", "--state DIR is missing", exit_code=EXIT_USAGE)
    context = replace(
        base or Context(state_dir),
        state_dir=state_dir,
        run=head.run,
        fence=head.fence,
        check=head.check or len(rest) < len(head.rest),
    )
    outcome = module.run(args, context)
    return Reply(EXIT_OK, outcome.as_output() if outcome else {})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["-h"], ["--help"]) or not words:
        sys.stdout.write(head_parser().format_help())
        return EXIT_OK if words else EXIT_USAGE
    reply = execute(words)
    if reply.output:
        sys.stdout.write(json.dumps(reply.output) + "\n")
        sys.stdout.flush()
    return reply.exit
