"""What holds for every command: help, what it imports, the exit status, --json."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from mcpops.cli.app import COMMANDS, cli, main
from mcpops.cli.common import Session
from mcpops.core.errors import ExitCode
from tests.e2e.stand import MCPOPS, ROOT


def every_command() -> Iterator[tuple[str, ...]]:
    """Yield every command and group of commands."""
    context = click.Context(cli)
    for name in COMMANDS:
        yield (name,)
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((name, below) for below in command.commands)


COMMANDS_AND_GROUPS = list(every_command())


def mcpops(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(MCPOPS), *argv], cwd=ROOT, text=True, capture_output=True, timeout=60, check=False,
        env={**os.environ, "COLUMNS": "120", **environment},
    )  # fmt: skip


OURS = {"mcpops", "mcpops.cli", "mcpops.cli.app", "mcpops.cli.common", "mcpops.core", "mcpops.core.errors"}


@pytest.mark.parametrize("argv", [("--help",), ("--version",), ("deploy", "--help"), ("rollback", "--help")])
def test_help_imports_little(argv):
    """What that takes of CPU depends on the machine: `make bench-figures` measures it."""
    told = mcpops(*argv, PYTHONPROFILEIMPORTTIME="1")

    assert told.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines() if line.startswith("import time:")}
    assert imported >= OURS
    of_the_command = {f"mcpops.cli.{argv[0]}"}
    assert {name for name in imported if name.partition(".")[0] == "mcpops"} - OURS <= of_the_command
    third_party = {"ansible", "ansible_runner", "sqlalchemy", "jsonschema", "yaml", "rich", "cryptography", "paramiko"}
    assert imported & third_party == set()


def help_of(*words: str) -> str:
    """What `--help` of a command prints; in this process, since there are many."""
    shown = CliRunner().invoke(cli, [*words, "--help"], obj=Session(), prog_name="mcpops", terminal_width=120)
    assert shown.exit_code == 0
    return shown.output


@pytest.mark.parametrize("words", COMMANDS_AND_GROUPS, ids=" ".join)
def test_every_command_has_help(words):
    shown = help_of(*words)

    assert shown.startswith(f"Usage: mcpops {' '.join(words)}")
    assert len(shown.splitlines()) >= 4


LEAVES = [
    words for words in COMMANDS_AND_GROUPS if len(words) == 2 or words[0] not in ("runs", "lab", "journal", "schedule")
]


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_has_the_common_options_and_says_its_exit_status(words):
    text = help_of(*words)

    assert all(option in text for option in ("--env", "--project", "--json", "--timeout", "--yes", "--no-color"))
    assert "Exit status:" in text + (help_of(words[0]) if len(words) > 1 else "")


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_tells_a_usage_error_as_json(words, capsys):
    code = main([*words, "--no-such-option", "--json"])

    assert code == ExitCode.USAGE
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["name"]) == (2, "usage")
    assert "--no-such-option" in error["message"]


def test_a_command_outside_of_a_project_says_so(tmp_path):
    shown = mcpops("status", "-C", str(tmp_path), "--json")

    assert shown.returncode == 2
    assert "no project" in json.loads(shown.stdout)["error"]["message"]
