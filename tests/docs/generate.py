"""The pages of docs/reference/ and the tables in the roles' README files, written from the code: `make docs`.

A page is a pure function without arguments. test_reference.py holds what is committed equal to what they return.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from mcpops.cli.app import COMMANDS, cli
from mcpops.cli.common import common_options
from mcpops.cli.settings import SCHEMA
from mcpops.core.errors import EXIT_MEANING, ExitCode
from mcpops.engine.gates import GATES, SETTINGS
from mcpops.runbook.schema import STEP_SCHEMA
from tests.docs.samples import samples
from tests.roles.role_tables import BEGIN, ROLES, cell, table, with_table

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/reference"
MADE = "<!-- Made by `make docs` from {source}; do not edit. -->"

NEXT: dict[ExitCode, str] = {
    ExitCode.OK: "Nothing.",
    ExitCode.FAILED: "`mcpops runs show ID` names the step, the host and the message. Mend it, and start again.",
    ExitCode.USAGE: "The hint names the file and line, or the option.",
    ExitCode.UNKNOWN: "Look at what did not answer. `mcpops rollback --sync` brings a front back that was away.",
    ExitCode.BUSY: "Wait for the other run, or `mcpops runs watch ID`. If it was interrupted: `mcpops runs resume ID`.",
    ExitCode.ROLLED_BACK: "Clients are on the old release. `mcpops runs show ID` says why. Mend the new release.",
    ExitCode.WAITING: "`mcpops approve ID` by another person, then `mcpops runs resume ID`.",
    ExitCode.BROKEN: "Mend the hosts by hand, then `mcpops runs resume ID` tries the undo again, or "
    "`mcpops runs abandon ID` gives it up; until then nothing else may act.",
    ExitCode.FENCED: "`mcpops status` says who acts now. Nothing more was done by this process. When it was the "
    "journal that was away: `mcpops runs resume ID`.",
    ExitCode.REFUSED: "The hint, or `mcpops runs show ID`, says what would be allowed.",
    ExitCode.INTERNAL: "Report it with the traceback. `mcpops runs list` shows what was recorded.",
    ExitCode.INTERRUPTED: "`mcpops runs resume ID`, or `mcpops runs abandon ID`.",
}


def commands(group: click.Group, context: click.Context, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command and subcommand with its full name."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, context, f"{path} {name}")


def all_commands() -> list[tuple[str, click.Command]]:
    """Return `mcpops deploy`, `mcpops runs`, `mcpops runs list`, … with their commands."""
    return list(commands(cli, click.Context(cli), "mcpops"))


def options_of(command: click.Command) -> list[click.Option]:
    """Return a command's own options, without --help and the common ones."""
    shared = {option.opts[0] for option in common()}
    return [
        parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.opts[0] not in shared
    ]


def common() -> list[click.Option]:
    """Return the options that every command has."""
    command = click.command()(common_options(lambda: None))
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def commands_page() -> str:
    """Return the page of all commands and options."""
    rows = [f"| [`mcpops {name}`](#mcpops-{name}) | {cell(COMMANDS[name][2])} |" for name in sorted(COMMANDS)]
    parts = [
        MADE.format(source="the command line"),
        "# Commands",
        "Data goes to standard output, progress and messages to standard error. "
        "[Exit codes](exit-codes.md) and [JSON](json.md) have pages of their own.",
        "\n".join(["| Command | What it does |", "|---|---|", *rows]),
        "## Common options",
        "Every command takes them, after its name.",
        _options(common()),
        "Without `-e` a command means the `default_environment` of `mcpops.yml`, or the only one there is. Without "
        "`-C` it means the nearest directory upwards that has `inventories/`. `mcpops --version` prints the version, "
        "and `-h` or `--help` after any command explains it.",
        *(_command(name, command) for name, command in all_commands()),
    ]
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: click.Command) -> str:
    level = "##" if name.count(" ") == 1 else "###"
    help_text = inspect.cleandoc(command.help or "")
    if isinstance(command, click.Group):
        return f"{level} {name}\n\n{help_text}"
    context = click.Context(command, info_name=name)
    usage = f"    {name} {' '.join(command.collect_usage_pieces(context))}"
    parts = [f"{level} {name}", help_text, usage]
    if own := options_of(command):
        parts.append(_options(own))
    if command.epilog:
        parts.append(command.epilog)
    return "\n\n".join(parts)


def _options(options: list[click.Option]) -> str:
    rows = ["| Option | Meaning |", "|---|---|"]
    for option in options:
        value = "" if option.is_flag or option.count else f" {option.metavar or option.type.name.upper()}"
        shown = option.default if isinstance(option.default, int | str) and option.show_default else None
        default = f" Default: `{shown}`." if shown is not None else ""
        rows.append(f"| `{', '.join(option.opts)}{value}` | {cell(option.help or '')}{default} |")
    return "\n".join(rows)


def exit_codes_page() -> str:
    """Return the page of exit codes."""
    rows = [
        f"| {int(code)} | {code.word} | {cell(meaning)} | {cell(NEXT[code])} |"
        for code, meaning in EXIT_MEANING.items()
    ]
    parts = [
        MADE.format(source="`mcpops.core.errors`"),
        "# Exit codes",
        "One table for all commands. A number that is not here is a failure. The program that runs on hosts "
        "(`hostside`) uses the same numbers.",
        "\n".join(["| Code | Name | Meaning | What to do |", "|---|---|---|---|", *rows]),
        "With `--json` an error is one object on standard output, with the same exit code: see [JSON](json.md#errors).",
    ]
    return "\n\n".join(parts) + "\n"


def step_page() -> str:
    """Return the page of `vars: step:` and of the gates."""
    rows = []
    for name, rule in STEP_SCHEMA["properties"].items():
        kind = rule["type"] + (": " + ", ".join(f"`{one}`" for one in rule["enum"]) if "enum" in rule else "")
        default = f"`{json.dumps(rule['default'])}`" if "default" in rule else ""
        example = f"`{name}: {json.dumps(rule['examples'][0]).strip(chr(34))}`"
        rows.append(f"| `{name}` | {cell(kind)} | {default} | {cell(rule['description'])} | {example} |")
    gates = [f"| `{name}` | {cell(_without_raises(judge))} |" for name, judge in GATES.items()]
    settings = ", ".join(f"`{name}`" for name in SETTINGS)
    parts = [
        MADE.format(source="`mcpops.runbook.schema` and `mcpops.engine.gates`"),
        "# What a play says to mcpops: `vars: step:`",
        "A runbook is a playbook. Each play is a step. What mcpops needs beyond Ansible stands in the play's `vars` "
        "as `step`; plain `ansible-playbook` takes it for a variable that nobody reads. An unknown key is an error "
        "with file and line.",
        "\n".join(["| Key | Type | Default | Meaning | Example |", "|---|---|---|---|---|", *rows]),
        "## Gates",
        "\n".join(["| Gate | What it does |", "|---|---|", *gates]),
        f"They are decided from variables of the inventory: {settings}. A gate that the inventory does not mention "
        "is unknown, and unknown blocks: who wants none says so.",
    ]
    return "\n\n".join(parts) + "\n"


def _without_raises(what: Any) -> str:
    text = " ".join(inspect.cleandoc(what.__doc__ or "").split())
    return re.sub(r" Raises .*$", "", text)


def roles_page() -> str:
    """Return the page of all roles: tasks and variables."""
    parts = [
        MADE.format(source="the roles' `meta/argument_specs.yml`"),
        "# Roles",
        "`main` applies, `verify` proves by other means, `undo` takes back, `probe` tells after a crash whether it "
        "happened. Each role's own README says more.",
        *(_role(role) for role in role_names()),
    ]
    return "\n\n".join(parts) + "\n"


def role_names() -> list[str]:
    """Return the names of all roles."""
    return sorted(path.name for path in ROLES.iterdir() if path.is_dir())


def _role(role: str) -> str:
    specs = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())["argument_specs"]
    rows = [f"| `{name}` | {cell(spec['short_description'])} |" for name, spec in specs.items()]
    return "\n\n".join(
        [
            f"## {role}",
            f"[README](../../roles/{role}/README.md)",
            "\n".join(["| Tasks | What they do |", "|---|---|", *rows]),
            table(role),
        ]
    )


def settings_page() -> str:
    """Return the page of `mcpops.yml`."""
    rows = [f"| `{path}` | {cell(meaning)} |" for path, meaning in _settings("", SCHEMA)]
    parts = [
        MADE.format(source="`mcpops.cli.settings`"),
        "# Settings: `mcpops.yml`",
        "One file at the top of a project; all of it may be left out. A mistake is told with its line. Durations are "
        "`90s`, `15m`, `2h` or `7d`; files are relative to the project.",
        "\n".join(["| Key | Meaning |", "|---|---|", *rows]),
        "Beside it stands `approvers`, who may approve: see [how to approve](../how-to/approve.md).",
    ]
    return "\n\n".join(parts) + "\n"


def _settings(path: str, rule: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, below in rule.get("properties", {}).items():
        inside = below.get("items", {}) if "properties" in below.get("items", {}) else below
        here = f"{path}{name}" + ("[]" if inside is not below else "")
        must = " Required." if name in rule.get("required", ()) else ""
        yield here, below["description"] + must
        yield from _settings(f"{here}.", inside)


def json_page() -> str:
    """Return the page of JSON shapes: answers of the real code to a made-up record."""
    parts = [
        MADE.format(source="answers of the real code to a made-up record"),
        "# JSON",
        "Every command takes `--json` and prints one object on standard output; `runs watch --json` prints one object "
        "a line. Fields are only ever added. Times are RFC 3339 in UTC, units stand in the names (`_s`, `_ms`, "
        "`_bytes`). `null` is: not known, or not yet.",
    ]
    for title, text, value in samples():
        shown = json.dumps(value, indent=1, ensure_ascii=False)
        parts.append(f"## {title}\n\n{text}\n\n```json\n{shown}\n```")
    return "\n\n".join(parts) + "\n"


PAGES = {
    "commands.md": commands_page,
    "exit-codes.md": exit_codes_page,
    "settings.md": settings_page,
    "step.md": step_page,
    "roles.md": roles_page,
    "json.md": json_page,
}


def readmes() -> dict[Path, str]:
    """Return the roles' README files with their tables anew."""
    paths = [ROLES / role / "README.md" for role in role_names()]
    return {path: with_table(path.read_text(), path.parent.name) for path in paths if BEGIN in path.read_text()}


def main() -> None:
    """Write everything."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    written = {REFERENCE / name: page() for name, page in PAGES.items()} | readmes()
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(written)} files written\n")


if __name__ == "__main__":
    main()
