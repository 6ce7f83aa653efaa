"""The embedded default's supervisord: what is refused before it starts, and what is found again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcpops.core.errors import Failed
from mcpops.deploy import embedded


def test_a_path_too_long_for_a_socket_is_told_before_anything_starts(tmp_path):
    home = tmp_path / ("x" * 100)
    with pytest.raises(Failed, match="too long") as caught:
        embedded.start(home, Path("supervisord"), home / "c", home / "control.sock")
    assert "107" in caught.value.detail


def test_a_supervisord_that_does_not_start_shows_why(tmp_path):
    program = tmp_path / "supervisord"
    program.write_text("#!/bin/sh\necho 'Error: bad configuration' >&2\nexit 2\n")
    program.chmod(0o755)
    with pytest.raises(Failed) as caught:
        embedded.start(tmp_path, program, tmp_path / "c", tmp_path / "s")
    assert "bad configuration" in caught.value.detail


def test_what_carries_the_marker_is_found_and_ended_and_nothing_else(tmp_path):
    sleeper = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    environment = {**os.environ, embedded.MARKER: str(tmp_path)}
    with (
        subprocess.Popen(sleeper, env=environment, stdout=subprocess.PIPE) as ours,
        subprocess.Popen(sleeper, cwd=tmp_path, stdout=subprocess.PIPE) as stranger,
    ):
        assert ours.stdout
        assert stranger.stdout
        ours.stdout.readline()
        stranger.stdout.readline()
        assert [process.pid for process in embedded.processes(tmp_path)] == [ours.pid]
        # The child of this test is a zombie until it is waited for; as a daemon it would be gone.
        ended = embedded.stop(tmp_path, tmp_path / "s")
        assert ([process.pid for process in ended], ours.wait(5)) == ([ours.pid], -15)
        assert stranger.poll() is None
        stranger.kill()
    assert embedded.stop(tmp_path, tmp_path / "s") == []
