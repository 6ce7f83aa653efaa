"""Every error becomes its exit code at one place, as text for people and as one object for scripts."""

from __future__ import annotations

import io
import json
import sys

import click
import pytest

from mcpops.cli import app
from mcpops.cli.common import common_options
from mcpops.core.errors import BY_CODE, EXIT_MEANING, ExitCode, Fenced, McpopsError


@pytest.fixture
def command(monkeypatch):
    """Put a command in place of `status` that raises or returns what the test says."""

    def install(outcome):
        @click.command()
        @common_options
        def status():
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(app.LazyGroup, "get_command", lambda *_: status)

    return install


@pytest.mark.parametrize("kind", BY_CODE.values())
def test_each_error_ends_with_its_code(command, capsys, kind):
    command(kind("it is so", detail="seen", hint="do this", where="a.yml:3"))

    assert app.main(["status"]) == kind.code
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "mcpops: error: a.yml:3: it is so",
        "mcpops: detail: seen",
        "mcpops: hint: do this",
    ]
    assert said.out == ""


def test_an_error_is_one_object_with_json(command, capsys):
    command(Fenced("gone", detail="d", hint="h"))

    assert app.main(["status", "--json"]) == 8
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {"code": 8, "name": "fenced", "message": "gone", "detail": "d", "hint": "h", "where": ""}


@pytest.mark.parametrize("argv", [["nonsense"], ["status", "--nonsense"], []])
def test_a_bad_command_line_is_usage(capsys, argv):
    assert app.main(argv) == ExitCode.USAGE


def test_a_bad_command_line_is_one_object_with_json(capsys):
    assert app.main(["status", "--nonsense", "--json"]) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().out)["error"]["name"] == "usage"


def test_ctrl_c_is_130(command, capsys):
    command(KeyboardInterrupt())

    assert app.main(["status"]) == 130


@pytest.mark.parametrize(
    ("raised", "code", "name"), [(KeyboardInterrupt(), 130, "interrupted"), (KeyError(1), 10, "internal")]
)
def test_ctrl_c_and_a_bug_are_one_object_too_with_json(command, capsys, raised, code, name):
    command(raised)

    assert app.main(["status", "--json"]) == code
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert (error["code"], error["name"]) == (code, name)
    assert set(error) == {"code", "name", "message", "detail", "hint", "where"}
    assert "mcpops runs list" in error["hint"]
    assert "mcpops runs list" in said.err, "a person reads it all the same"


def test_a_broken_pipe_inside_of_a_command_is_a_bug_and_not_silence(command, capsys):
    """click would end the process with exit code 1 and say nothing."""
    command(BrokenPipeError(32, "Broken pipe"))

    assert app.main(["status"]) == ExitCode.INTERNAL
    assert "BrokenPipeError" in capsys.readouterr().err


def test_an_error_is_told_on_stderr_when_stdout_cannot_take_it(command, capsys, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    command(Fenced("gone", detail="d", hint="h"))
    monkeypatch.setattr(sys, "stdout", Gone())

    assert app.main(["status", "--json"]) == ExitCode.FENCED
    assert "mcpops: error: gone" in capsys.readouterr().err


def test_a_bug_prints_its_traceback_and_is_10(command, capsys):
    command(RuntimeError("a bug"))

    assert app.main(["status"]) == ExitCode.INTERNAL
    assert "RuntimeError: a bug" in capsys.readouterr().err


def test_what_a_command_returns_is_the_exit_code(command):
    command(3)

    assert app.main(["status"]) == 3


def test_every_exit_code_has_a_meaning_and_every_error_class_a_code_of_its_own():
    assert set(EXIT_MEANING) == set(ExitCode)
    subclasses = McpopsError.__subclasses__()
    assert {int(kind.code) for kind in BY_CODE.values()} == set(range(1, 11))
    assert {kind.__name__ for kind in BY_CODE.values()} <= {kind.__name__ for kind in subclasses}


def test_every_command_of_the_table_can_be_imported():
    with click.Context(app.cli) as context:
        for name in app.COMMANDS:
            assert app.cli.get_command(context, name) is not None, name
