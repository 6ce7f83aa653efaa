"""The way in: finds the command, runs it, and turns every error into its exit code at this one place."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from mcpops.cli.common import Session, as_json, open_streams, put, settle_streams, tell
from mcpops.core.errors import ExitCode, InternalError, Interrupted, McpopsError, UsageError

HELP = frozenset({"-h", "--help", "--version"})
COMPLETION = "_MCPOPS_COMPLETE"  # how a shell asks; `_MCPOPS_COMPLETE=bash_source mcpops` prints what it needs

# command: (module, attribute, one line of help). Modules are imported when the command is typed, so that
# `--help` and `--version` stay under 150 ms of CPU.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "approve": ("mcpops.cli.approve", "approve", "Approve the plan of a run that waits."),
    "deploy": ("mcpops.cli.deploy", "deploy", "Deploy a release, blue-green."),
    "journal": ("mcpops.cli.journal", "journal", "The record: verify, export, anchor, prune."),
    "lab": ("mcpops.cli.lab", "lab", "Real test hosts on this machine."),
    "reject": ("mcpops.cli.approve", "reject", "Reject the plan of a run that waits."),
    "rollback": ("mcpops.cli.rollback", "rollback", "Back to the last release whose verify passed."),
    "run": ("mcpops.cli.run", "run", "Run any runbook in playbooks/."),
    "runs": ("mcpops.cli.runs", "runs", "The record: list, show, watch, resume, abandon, export."),
    "schedule": ("mcpops.cli.schedule", "schedule", "Runbooks that run by themselves."),
    "status": ("mcpops.cli.status", "status", "What serves, who acts, what is overdue."),
    "worker": ("mcpops.cli.worker", "worker", "Take runs from the queue."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the alphabet."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or None when there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in self.list_commands(ctx)])


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version  # noqa: PLC0415 - 20 ms that only --version needs

        click.echo(f"mcpops {version('mcpops')}")
        context.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
def cli() -> None:
    """Operations runbooks for MCP ecosystems: deploy, roll back, and a record that is true."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code of the contract. Nothing else in mcpops calls sys.exit."""
    open_streams()
    session = Session(color="NO_COLOR" not in os.environ)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _exit_code(arguments, session)
    finally:
        settle_streams()


def _exit_code(arguments: list[str], session: Session) -> int:
    try:
        _require_text(arguments)
        return _call(arguments, session)
    except McpopsError as error:
        return _tell(error, session, arguments)
    except click.exceptions.NoArgsIsHelpError as error:
        tell(error.format_message())
        return ExitCode.USAGE
    except click.ClickException as error:
        usage = error.ctx.get_usage() if isinstance(error, click.UsageError) and error.ctx else ""
        return _tell(UsageError(error.format_message(), hint=usage or "see --help"), session, arguments)
    except (KeyboardInterrupt, EOFError, click.Abort):
        hint = "`mcpops runs list` shows what can be resumed"
        return _tell(Interrupted("interrupted", hint=hint), session, arguments, aloud=f"mcpops: interrupted; {hint}")
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes an exit code
        if isinstance(error, OSError) and HELP & set(arguments):
            return ExitCode.FAILED  # click prints these two by itself, and nobody reads them any more
        return _tell_bug(error, session, arguments)


def _require_text(arguments: Sequence[str]) -> None:
    """Raise UsageError for a word that is no text: the record, hosts and JSON take text only."""
    for number, word in enumerate(arguments, 1):
        try:
            word.encode()
        except UnicodeEncodeError as error:
            # The word itself is not shown: it may be a secret.
            hint = "see how the terminal or the script that calls encodes its text"
            raise UsageError(f"argument {number} of the command line is not UTF-8", hint=hint) from error


def _call(arguments: list[str], session: Session) -> int:
    """Run the command. click's own `main` would end the process, silently and with 1, over any broken pipe of it."""
    asked = os.environ.get(COMPLETION)
    if asked:
        from click.shell_completion import shell_complete  # noqa: PLC0415 - a shell asks, while somebody types

        return shell_complete(cli, {}, "mcpops", COMPLETION, asked)
    try:
        with cli.make_context("mcpops", list(arguments), obj=session) as context:
            return int(cli.invoke(context) or 0)
    except click.exceptions.Exit as ended:
        return ended.exit_code


def _tell(error: McpopsError, session: Session, arguments: Sequence[str] = (), *, aloud: str = "") -> int:
    """Tell an error where the caller looks: one object on stdout with --json, else text on stderr.

    `arguments` may say --json before it was understood; `aloud` goes to stderr in any case.
    """
    session.json = session.json or "--json" in arguments
    heard = session.json and put(as_json(error.to_json())) is None
    if aloud or not heard:
        tell(aloud or _text(error))
    return int(error.code)


def _text(error: McpopsError) -> str:
    where = f"{error.where}: " if error.where else ""
    labelled = (("error", f"{where}{error.message}"), ("detail", error.detail), ("hint", error.hint))
    return "\n".join(f"mcpops: {label}: {text}" for label, text in labelled if text)


def _tell_bug(error: Exception, session: Session, arguments: Sequence[str]) -> int:
    what, hint = f"internal error: {error!r}", "`mcpops runs list` shows the record"
    trace = "".join(traceback.format_exception(error))
    return _tell(InternalError(what, hint=hint), session, arguments, aloud=f"{trace}mcpops: {what}; {hint}")
