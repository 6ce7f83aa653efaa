"""What every command shares: the common options, the session they fill, and how things are said."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from mcpops.core.errors import Failed, UsageError

LONGEST_S = 366 * 86_400  # of any duration on the command line: what is longer is a slip, or no number


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str, longest_s: int = LONGEST_S) -> int:
    """Return `90`, `90s`, `15m`, `2h` or `7d` as seconds. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text, re.ASCII)
    length_s = int(found[1]) * _UNITS[found[2]] if found else longest_s + 1
    if length_s > longest_s:
        raise UsageError(
            f"{text!r} is no duration, or longer than {longest_s // 86_400} days", hint="for example 90s, 15m, 2h or 7d"
        )
    return length_s


def tell(text: str) -> None:
    """Say something to a person, on stderr. Nobody may hear it, and nothing that acts depends on it."""
    with suppress(OSError, ValueError):
        click.echo(text, err=True)


def put(text: str) -> OSError | ValueError | None:
    """Print on stdout; return why it could not be printed, or None."""
    try:
        click.echo(text)
    except (OSError, ValueError) as error:
        return error
    return None


def as_json(data: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return one line of JSON that stdout can take whatever its encoding."""
    encoding = str(getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    return json.dumps(data, ensure_ascii=encoding not in ("utf-8", "utf8"))


@dataclass
class Session:
    """What the common options said; one a process, passed as the click object.

    `background`: the command drives runs that nobody asked for here, so what it reports of each goes to stderr.
    """

    project: Path | None = None
    environment: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    color: bool = True
    yes: bool = False
    timeout_s: float | None = None
    background: bool = False

    def say(self, text: str) -> None:
        """Print progress for a person, on stderr."""
        if not self.quiet:
            tell(text)

    def emit(self, data: Any, text: str) -> bool:  # noqa: ANN401 - any JSON value
        """Print the answer to a question on stdout: one JSON object with --json, else the text.

        Returns False when the reader went away, who had enough. Raises Failed when the answer is lost otherwise (a
        full disk).
        """
        error = put(as_json(data) if self.json else text)
        if error and not isinstance(error, BrokenPipeError):
            hint = "see where standard output goes, and ask again"
            raise Failed("the answer could not be written to standard output", detail=str(error), hint=hint)
        return error is None

    def report(self, data: Any, text: str) -> None:  # noqa: ANN401 - any JSON value
        """Print what was done, as `emit` does; it stays done when nobody can read that, so this is a warning only."""
        if self.background:
            self.say(text)
            return
        error = put(as_json(data) if self.json else text)
        if error:
            tell(f"mcpops: warning: standard output cannot be written ({error}); what was done is on record")

    @property
    def live(self) -> bool:
        """Whether a person watches: stderr is a terminal and nobody asked for quiet or JSON."""
        try:
            return sys.stderr.isatty() and not self.quiet and not self.json
        except ValueError:  # closed
            return False


def open_streams() -> None:
    """Give each standard stream that the caller closed a way to nowhere, and let stdout take every character.

    Without it the next file that is opened would be standard error, and what is said would go into that.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # the lowest free number: the one that was closed
            setattr(sys, name, os.fdopen(handle, mode, encoding="utf-8"))
    with suppress(AttributeError, OSError, ValueError):  # in tests it is no file
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def settle_streams() -> None:
    """Write what is still to be written, and throw away what cannot be.

    Python would try that again at its end, and make an exit code of its own of it.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


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


_PLAN_OPTIONS = (
    click.option(
        "--plan", "plan_only", is_flag=True, help="Print steps, hosts, what would change, and the digest; and stop."
    ),
    click.option("--queue", is_flag=True, help="Leave the run to `mcpops worker`."),
    click.option("--until", metavar="STEP", help="Stop after this step."),
)


def plan_options(command: Command) -> Command:
    """Give a command that makes a plan what all of them have."""
    for option in reversed(_PLAN_OPTIONS):
        command = option(command)
    return command


def common_options(command: Command) -> Command:
    """Give a command the common options; they fill the Session and are no parameters of the command."""

    def into_session(context: click.Context, parameter: click.Parameter, value: Any) -> None:  # noqa: ANN401
        field = str(parameter.name)
        if field == "timeout_s" and value is not None and not 0 < value <= LONGEST_S:
            raise click.BadParameter(f"expected more than 0 and at most {LONGEST_S} seconds")
        if value not in (None, False, 0):
            setattr(context.ensure_object(Session), field, False if field == "color" else value)

    for flags, field, settings in reversed(_OPTIONS):
        command = click.option(*flags, field, expose_value=False, callback=into_session, **settings)(command)
    return command
