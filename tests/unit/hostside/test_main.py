"""The command line, the channel, and the shipped file."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mcpops.hostside import bundle
from mcpops.hostside.main import VERBS, execute
from mcpops.hostside.serve import answer_lines
from mcpops.hostside.state import Context


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--state", "x"],
        ["--state", "x", "reboot"],
        ["status"],
        ["--state", "x", "front"],
        ["--state", "x", "front", "activate", "--slot", "red", "--generation", "1", "--expect", "0"],
        ["--state", "x", "front", "activate", "--slot", "blue"],
        ["--state", "x", "--fence", "many", "status"],
        ["--state", "x", "front", "drain", "blue"],
    ],
)
def test_a_bad_command_line_answers_as_json_with_exit_2(argv: list[str]) -> None:
    reply = execute(argv)
    assert (reply.exit, reply.output["error"]["name"], reply.output["changed"]) == (2, "usage", False)
    assert set(reply.output["error"]) == {"name", "message", "detail", "hint"}


def test_a_directory_without_a_service(tmp_path: Path) -> None:
    reply = execute(["--state", str(tmp_path), "status"])
    assert (reply.exit, reply.output["error"]["name"]) == (2, "not_set_up")
    (tmp_path / "service.json").write_text('{"service": "time"}')
    reply = execute(["--state", str(tmp_path), "status"])
    assert (reply.exit, reply.output["error"]["name"]) == (2, "bad_service")


def test_a_bug_answers_as_json_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mcpops.hostside.status.run", broken)
    reply = execute(["--state", str(tmp_path), "status"])
    assert (reply.exit, reply.output["error"]["name"]) == (10, "internal")


def test_the_channel_answers_each_line_in_order_and_survives_nonsense(tmp_path: Path) -> None:
    lines = [
        '{"id": 7, "argv": ["status"]}',
        "not json",
        '{"id": 8}',
        '["id"]',
        "",
        '{"id": 9, "argv": ["serve"]}',
        '{"id": 10, "argv": ["--help"]}',
        '{"id": 11, "argv": ["slot", "stage", "blue", "--manifest", "-"]}',
        '{"id": "x", "argv": ["--run", "r", "--fence", "1", "front", "sync"]}',
    ]
    sink = io.StringIO()
    answer_lines(io.StringIO("\n".join(lines) + "\n"), sink, Context(tmp_path))
    answers = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert [answer["id"] for answer in answers] == [7, None, 8, None, 9, 10, 11, "x"]
    assert [answer["exit"] for answer in answers] == [2] * 8
    assert answers[6]["output"]["error"]["message"] == "not a request", "it would eat the next lines"
    assert answers[0]["output"]["error"]["name"] == "not_set_up"


def test_the_shipped_file_has_the_same_bytes_each_time_and_runs_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pyz", tmp_path / "deep" / "b.pyz"
    assert bundle.build(first) == bundle.build(second)
    assert first.read_bytes() == second.read_bytes()
    done = subprocess.run(
        [sys.executable, "-I", str(first), "--state", str(tmp_path / "none"), "status"],
        capture_output=True, check=False, timeout=30, cwd="/",
    )  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)["error"]["name"]) == (2, "not_set_up")
    assert subprocess.run([sys.executable, "-I", str(first), "--help"], check=True, capture_output=True).stdout


def test_serve_ends_at_end_of_file(tmp_path: Path) -> None:
    bundle.build(tmp_path / "a.pyz")
    done = subprocess.run(
        [sys.executable, "-I", str(tmp_path / "a.pyz"), "--state", str(tmp_path), "serve"],
        input=b'{"id": 1, "argv": ["status"]}\n', capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [1]


def test_every_verb_has_its_module() -> None:
    for module in VERBS.values():
        path = Path(bundle.__file__).parent / f"{module.rsplit('.', 1)[1]}.py"
        names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert {"add_arguments", "run"} <= names, module


def test_it_imports_nothing_but_the_standard_library_and_itself() -> None:
    allowed = {*sys.stdlib_module_names, "mcpops.hostside"}
    for path in Path(bundle.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                names = [node.module or ""]
            for name in names:
                root = "mcpops.hostside" if name.startswith("mcpops.hostside") else name.split(".")[0]
                assert root in allowed, (path, name)
