"""The way in: finds the command, runs it, and turns every error into its exit code at this one place."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from mcpops.cli.common import Session
from mcpops.core.errors import ExitCode, McpopsError

# command: (module, attribute, one line of help). Modules are imported when the command is typed, so that
# `--help` and `--version` stay under 150 ms of CPU.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "approve": ("mcpops.cli.approve", "approve", "Approve the plan of a run that waits."),
    "deploy": ("mcpops.cli.deploy", "deploy", "Deploy a release, blue-green."),
    "journal": ("mcpops.cli.journal", "journal", "The record's hash chain."),
    "lab": ("mcpops.cli.lab", "lab", "Real test hosts on this machine."),
    "reject": ("mcpops.cli.approve", "reject", "Reject the plan of a run that waits."),
    "rollback": ("mcpops.cli.rollback", "rollback", "Back to the last release whose verify passed."),
    "run": ("mcpops.cli.run", "run", "Run any runbook in playbooks/."),
    "runs": ("mcpops.cli.runs", "runs", "The record: list, show, watch, resume, abandon, export."),
    "status": ("mcpops.cli.status", "status", "What serves, who acts, what is overdue."),
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
    session = Session(color="NO_COLOR" not in os.environ)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return int(cli.main(arguments, prog_name="mcpops", standalone_mode=False, obj=session) or 0)
    except McpopsError as error:
        return _tell(error, session)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    except click.ClickException as error:
        return _tell_usage(error, session, as_json=session.json or "--json" in arguments)
    except (KeyboardInterrupt, click.Abort):
        click.echo("mcpops: interrupted; `mcpops runs list` shows what can be resumed", err=True)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes an exit code
        traceback.print_exc()
        click.echo(f"mcpops: internal error: {error!r}; `mcpops runs list` shows the record", err=True)
        return ExitCode.INTERNAL


def _tell(error: McpopsError, session: Session) -> int:
    if session.json:
        click.echo(json.dumps(error.to_json(), ensure_ascii=False))
    else:
        where = f"{error.where}: " if error.where else ""
        click.echo(f"mcpops: error: {where}{error.message}", err=True)
        for label, text in (("detail", error.detail), ("hint", error.hint)):
            if text:
                click.echo(f"mcpops: {label}: {text}", err=True)
    return int(error.code)


def _tell_usage(error: click.ClickException, session: Session, *, as_json: bool) -> int:
    session.json = as_json
    usage = error.ctx.get_usage() if isinstance(error, click.UsageError) and error.ctx else ""
    body: dict[str, Any] = {"message": error.format_message(), "detail": "", "hint": usage, "where": ""}
    if as_json:
        click.echo(json.dumps({"error": {"code": int(ExitCode.USAGE), "name": ExitCode.USAGE.word, **body}}))
    else:
        click.echo(f"mcpops: error: {body['message']}\nmcpops: hint: {usage or 'see --help'}", err=True)
    return ExitCode.USAGE
