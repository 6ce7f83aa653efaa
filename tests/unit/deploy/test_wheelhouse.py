"""The wheelhouse: what is asked of pip, and that nothing is asked twice."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from mcpops.core.errors import Failed, UsageError
from mcpops.deploy import wheelhouse

LOCK = "tiny-tool==1.0 \\\n    --hash=sha256:00\npywin32==312 ; sys_platform == 'win32' \\\n    --hash=sha256:11\n"


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Stands in for pip: writes the wheel; counts its calls."""
    calls = []

    def run(argv, **_):
        calls.append(argv)
        Path(argv[-1], "tiny_tool-1.0-py3-none-any.whl").touch()
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(wheelhouse.subprocess, "run", run)
    return calls


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "a.lock"
    path.write_text(LOCK)
    return path


def test_it_is_filled_once_and_by_hash(pip, lock, tmp_path):
    assert wheelhouse.fill([lock], tmp_path / "w") == [lock]
    assert {"--require-hashes", "--only-binary", "--no-deps"} <= set(pip[0])
    assert wheelhouse.fill([lock], tmp_path / "w") == []
    assert len(pip) == 1


def test_a_changed_lock_file_or_a_missing_wheel_is_fetched_again(pip, lock, tmp_path):
    wheelhouse.fill([lock], tmp_path / "w")
    lock.write_text(LOCK + "# changed\n")
    assert wheelhouse.fill([lock], tmp_path / "w") == [lock]
    (tmp_path / "w/tiny_tool-1.0-py3-none-any.whl").unlink()
    assert wheelhouse.fill([lock], tmp_path / "w") == [lock]


def test_a_wheel_of_another_version_is_not_the_one(pip, lock, tmp_path):
    wheelhouse.fill([lock], tmp_path / "w")
    wheel = tmp_path / "w/tiny_tool-1.0-py3-none-any.whl"
    wheel.rename(wheel.with_name("tiny_tool-2.0-py3-none-any.whl"))
    assert wheelhouse.fill([lock], tmp_path / "w") == [lock]


@pytest.mark.parametrize(("tag", "platform"), [("cpython-399", ""), ("", "linux-other")])
def test_another_python_gets_wheels_of_its_own_once(pip, lock, tmp_path, monkeypatch, tag, platform):
    monkeypatch.setattr(sysconfig, "get_platform", lambda: "linux-x86_64")
    wheelhouse.fill([lock], tmp_path / "w")
    with monkeypatch.context() as patched:
        patched.setattr(sys.implementation, "cache_tag", tag or sys.implementation.cache_tag)
        patched.setattr(sysconfig, "get_platform", lambda: platform or "linux-x86_64")
        assert wheelhouse.fill([lock], tmp_path / "w") == [lock]
        assert wheelhouse.fill([lock], tmp_path / "w") == []
    assert wheelhouse.fill([lock], tmp_path / "w") == []
    assert len(pip) == 2


def test_failures_are_told_and_leave_no_stamp(lock, tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: no matching distribution")
    monkeypatch.setattr(wheelhouse.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(Failed) as caught:
        wheelhouse.fill([lock], tmp_path / "w")
    assert "no matching distribution" in caught.value.detail
    assert list((tmp_path / "w").glob(".*")) == []
    with pytest.raises(UsageError):
        wheelhouse.fill([tmp_path / "none.lock"], tmp_path / "w")


def test_the_tool_ends_with_the_code_of_its_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert wheelhouse.main([]) == 2
    assert "no lock file" in capsys.readouterr().err
