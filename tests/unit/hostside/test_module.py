"""The Ansible module: what it runs, and what it says of an answer."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
PARAMETERS = {"argv": ["front", "sync"], "path": "/p", "state_dir": "/s", "run": None, "fence": None}


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hostside_module", REPOSITORY / "plugins/modules/hostside.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_command_line(module: ModuleType) -> None:
    head = [sys.executable, "-I", "/p", "--state", "/s"]
    assert module.command(PARAMETERS, check_mode=False) == [*head, "front", "sync"]
    right = {**PARAMETERS, "run": "r1", "fence": 0}
    assert module.command(right, check_mode=True) == [
        *head, "--run", "r1", "--fence", "0", "--check", "front", "sync",
    ]  # fmt: skip


def test_an_error_tells_what_why_and_what_to_do(module: ModuleType) -> None:
    error = {"message": "blue is active", "detail": "since noon", "hint": "activate green"}
    assert module.failure({"error": error}) == "blue is active (since noon). Hint: activate green"
    assert module.failure({"error": {"message": "m", "detail": "", "hint": ""}}) == "m"
    assert module.failure({}) == "no message"


def run(tmp_path: Path, program: str, check: bool = False, **parameters: Any) -> tuple[int, dict[str, Any]]:
    """The module as Ansible runs it, with a program of this text."""
    path = tmp_path / "program"
    if program:
        path.write_text(program)
    arguments = {"argv": ["status"], "path": str(path), "state_dir": str(tmp_path), "_ansible_check_mode": check}
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "plugins/modules/hostside.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, **parameters}}),
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("print('{\"changed\": true, \"x\": 1}')", {"changed": True, "output": {"changed": True, "x": 1}}),
        ("import sys; print('{\"error\": {\"name\": \"stale\", \"message\": \"m\"}}'); sys.exit(9)",
         {"failed": True, "exit_code": 9, "error": "stale", "msg": "m"}),
        ("import sys; sys.exit('boom')", {"failed": True, "exit_code": 1, "error": "no_answer"}),
        ("import time; time.sleep(20)", {"failed": True, "exit_code": 3, "error": "deadline"}),
        ("import sys; print('{\"said\": %d}' % len(sys.stdin.read()))", {"changed": False, "output": {"said": 5}}),
    ],
)  # fmt: skip
def test_an_answer_becomes_a_result(tmp_path: Path, program: str, expected: dict[str, Any]) -> None:
    _, result = run(tmp_path, program, deadline_s=2, stdin="token")
    assert {key: result.get(key) for key in expected} == expected
    assert "token" not in json.dumps(result), "what goes to stdin is never shown"


def test_a_first_check_run_has_no_program_yet(tmp_path: Path) -> None:
    assert run(tmp_path, "", check=True)[1]["changed"] is True
    code, result = run(tmp_path, "")
    assert (code, result["failed"], result["error"]) == (1, True, "no_answer")
