"""What every command shares: the common options, the session they fill, and how things are said."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click


@dataclass
class Session:
    """What the common options said; one a process, passed as the click object."""

    project: Path | None = None
    environment: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    color: bool = True
    yes: bool = False
    timeout_s: float | None = None

    def say(self, text: str) -> None:
        """Print progress for a person, on stderr."""
        if not self.quiet:
            click.echo(text, err=True)

    def emit(self, data: Any, text: str) -> None:  # noqa: ANN401 - any JSON value
        """Print data on stdout: one JSON object with --json, else the text."""
        click.echo(json.dumps(data, ensure_ascii=False) if self.json else text)

    @property
    def live(self) -> bool:
        """Whether a person watches: stderr is a terminal and nobody asked for quiet or JSON."""
        return sys.stderr.isatty() and not self.quiet and not self.json


Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS: tuple[tuple[tuple[str, ...], str, dict[str, Any]], ...] = (
    (("-e", "--env"), "environment", {"metavar": "ENV", "help": "Environment (an inventory under inventories/)."}),
    (
        ("-C", "--project"),
        "project",
        {"metavar": "DIR", "type": click.Path(path_type=Path), "help": "Project directory."},
    ),
    (("--json",), "json", {"is_flag": True, "help": "Print one JSON object on stdout."}),
    (("-q", "--quiet"), "quiet", {"is_flag": True, "help": "No progress on stderr."}),
    (("-v", "--verbose"), "verbose", {"count": True, "help": "More detail; may be repeated."}),
    (("--no-color",), "color", {"is_flag": True, "help": "No colours (also NO_COLOR)."}),
    (("--yes",), "yes", {"is_flag": True, "help": "Do not ask."}),
    (("--timeout",), "timeout_s", {"type": float, "metavar": "SECONDS", "help": "Give up after so many seconds."}),
)


def common_options(command: Command) -> Command:
    """Give a command the common options; they fill the Session and are no parameters of the command."""

    def into_session(context: click.Context, parameter: click.Parameter, value: Any) -> None:  # noqa: ANN401
        if value not in (None, False, 0):
            field = str(parameter.name)
            setattr(context.ensure_object(Session), field, False if field == "color" else value)

    for flags, field, settings in reversed(_OPTIONS):
        command = click.option(*flags, field, expose_value=False, callback=into_session, **settings)(command)
    return command
