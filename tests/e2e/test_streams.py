"""A run goes on when nobody hears it, and ends with its own exit code; a terminal shows every text as it is."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.record import in_terminal
from tests.e2e.stand import MCPOPS
from tests.streams import BAD, run

HOSTS = "all: {hosts: {here: {ansible_connection: local, ansible_python_interpreter: '%s'}}}\n"
# What happens is in a file, so that a test sees whether the second step was reached.
RUNBOOK = """
- name: first
  hosts: here
  gather_facts: false
  tasks:
    - name: Leave [/red] and [error]
      ansible.builtin.copy: {dest: "{{ mcpops_project }}/first", content: "", mode: "0600"}
- name: second
  hosts: here
  gather_facts: false
  tasks:
    - name: Do [bold]what[/x] is asked for
      ansible.builtin.command: "{{ command | default('true') }}"
      changed_when: true
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without a front."""
    (tmp_path / "inventories/small").mkdir(parents=True)
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "inventories/small/hosts.yml").write_text(HOSTS % sys.executable)
    (tmp_path / "playbooks/small.yml").write_text(RUNBOOK)
    return tmp_path


def runs(project: Path) -> list[dict]:
    told = run([str(MCPOPS), "runs", "list", "--json"], cwd=project)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)["runs"]


@pytest.mark.parametrize(
    ("bad", "command", "code"),
    [
        ({"stderr": "broken"}, "true", 0),
        ({"stderr": "closed"}, "true", 0),
        ({"stdout": "broken", "stderr": "broken"}, "false", 1),
        ({"stdout": "closed", "stderr": "closed"}, "true", 0),
        ({"stdout": "full"}, "true", 0),
    ],
    ids=str,
)
def test_a_run_goes_to_its_end_and_ends_with_its_own_exit_code(project, bad, command, code):
    ended = run([str(MCPOPS), "run", "small", "-x", f"command={command}"], cwd=project, **bad)

    assert ended.returncode == code, ended.stderr
    assert [row["exit_code"] for row in runs(project)] == [code]
    assert (project / "first").exists()
    if bad == {"stdout": "full"}:
        assert "standard output cannot be written" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_terminal_shows_a_text_that_looks_like_markup(project):
    code, seen = in_terminal([str(MCPOPS), "run", "small", "-C", str(project), "-x", "command=false"])

    assert code == 1, seen
    assert "here: Do [bold]what[/x] is asked for: failed" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert [row["state"] for row in runs(project)] == ["failed"]


def test_ctrl_c_gives_the_terminal_its_cursor_back(project):
    ours, theirs = pty.openpty()
    argv = [str(MCPOPS), "run", "small", "-C", str(project), "-x", "command=sleep 30"]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        seen, asked = b"", False
        while chunk := _read(ours):
            seen += chunk
            if b"second" in seen and not asked:
                process.send_signal(signal.SIGINT)
                asked = True
    os.close(ours)

    assert process.returncode == 130, seen
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")
    [left] = runs(project)
    assert run([str(MCPOPS), "runs", "abandon", left["id"], "--yes"], cwd=project).returncode == 0


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux tells the end of a terminal
        return b""


@pytest.mark.parametrize(("how", "code"), [("closed", 0), ("broken", 0), ("full", 1)])
def test_an_answer_that_is_lost_is_no_success(project, how, code):
    """A reader that went away had enough of it; a full disk is another thing."""
    told = run([str(MCPOPS), "runs", "list", "--json"], cwd=project, stdout=how)

    assert told.returncode == code
    assert ("could not be written" in told.stderr) is (code == 1)


@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("argv", [("nonsense",), ("status", "-e", "moon"), ("status", "-e", "moon", "--json")])
def test_an_error_keeps_its_exit_code(project, argv, how):
    assert run([str(MCPOPS), *argv], cwd=project, stderr=how).returncode == 2
    assert run([str(MCPOPS), *argv], cwd=project, stdout=how).returncode == 2


@pytest.mark.parametrize("argv", [("--help",), ("--version",), ("rollback", "--help")])
def test_help_that_nobody_reads_prints_no_traceback(project, argv):
    told = run([str(MCPOPS), *argv], cwd=project, stdout="broken")

    assert (told.returncode, told.stderr) == (1, "")
