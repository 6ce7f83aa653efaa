"""The front: which slot gets the requests, and everything that goes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpops.hostside.state import HostError

if TYPE_CHECKING:
    import argparse

    from mcpops.hostside.state import Context, Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs of `front`."""
    parser.add_argument("verb")


def run(args: argparse.Namespace, context: Context) -> Outcome:
    """Dispatch."""
    raise HostError("internal", f"front {args.verb} is not there yet: {context.state_dir}")
