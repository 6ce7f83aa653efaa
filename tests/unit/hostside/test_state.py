"""Lock, fence, files of the state directory."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mcpops.hostside import state
from mcpops.hostside.state import Context, HostError


def context(directory: Path, run: str | None = "r1", fence: int | None = 5, check: bool = False) -> Context:
    return Context(directory, run=run, fence=fence, check=check)


def stored(directory: Path) -> object:
    return json.loads((directory / "fence").read_text())


def test_a_higher_fence_is_remembered_before_anything_happens(tmp_path: Path) -> None:
    state.require_fence(context(tmp_path))
    assert stored(tmp_path) == {"fence": 5, "run": "r1"}
    state.require_fence(context(tmp_path, run="r2", fence=6))
    assert stored(tmp_path) == {"fence": 6, "run": "r2"}


@pytest.mark.parametrize(("run", "fence"), [("r1", 4), ("r2", 5), ("r2", 0)])
def test_a_lower_fence_or_another_run_with_the_same_is_refused(tmp_path: Path, run: str, fence: int) -> None:
    state.require_fence(context(tmp_path))
    with pytest.raises(HostError) as caught:
        state.require_fence(context(tmp_path, run=run, fence=fence))
    assert (caught.value.name, caught.value.exit_code) == ("fenced", 8)
    assert stored(tmp_path) == {"fence": 5, "run": "r1"}


def test_the_same_run_keeps_its_right_and_a_check_stores_nothing(tmp_path: Path) -> None:
    state.require_fence(context(tmp_path, check=True))
    assert not (tmp_path / "fence").exists()
    state.require_fence(context(tmp_path))
    state.require_fence(context(tmp_path))
    with pytest.raises(HostError, match="lost its right"):
        state.require_fence(context(tmp_path, run="r0", fence=1, check=True))


@pytest.mark.parametrize(("run", "fence"), [(None, 5), ("r1", None), ("", 5)])
def test_no_fence_no_change(tmp_path: Path, run: str | None, fence: int | None) -> None:
    with pytest.raises(HostError) as caught:
        state.require_fence(context(tmp_path, run=run, fence=fence))
    assert caught.value.exit_code == 2


def test_a_broken_fence_file_is_an_error_not_a_free_pass(tmp_path: Path) -> None:
    (tmp_path / "fence").write_text('{"fence": ')
    with pytest.raises(HostError) as caught:
        state.require_fence(context(tmp_path))
    assert (caught.value.name, caught.value.exit_code) == ("unreadable", 3)


def test_the_lock_is_exclusive_bounded_and_freed_by_death(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from mcpops.hostside.state import Context, locked\n"
        f"with locked(Context(Path({str(tmp_path)!r}))): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(HostError) as caught, state.locked(context(tmp_path), deadline_s=0.05):
            pass
        assert (caught.value.name, caught.value.exit_code) == ("locked", 4)
        holder.kill()
        holder.wait(10)
    with state.locked(context(tmp_path), deadline_s=1):
        pass


def test_no_state_directory(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught, state.locked(context(tmp_path / "no")):
        pass
    assert (caught.value.name, caught.value.exit_code) == ("not_set_up", 2)


def test_a_file_is_private_and_whole(tmp_path: Path) -> None:
    state.write_atomic(tmp_path / "f", b"one")
    state.write_atomic(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    state.write_atomic(tmp_path / "f", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if failing == "fsync" else Path, failing, full)
    with pytest.raises(HostError) as caught:
        state.write_atomic(tmp_path / "f", b"new")
    monkeypatch.undo()
    assert (caught.value.name, caught.value.exit_code) == ("disk_full", 1)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_maps_are_read_as_haproxy_reads_them(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("# comment\n\ntime blue\n  time.generation   42  \n")
    assert state.read_map(tmp_path / "m") == {"time": "blue", "time.generation": "42"}
    (tmp_path / "m").write_text("time\n")
    with pytest.raises(HostError, match="cannot be read"):
        state.read_map(tmp_path / "m")


def test_the_timestamp_is_utc_with_milliseconds(tmp_path: Path) -> None:
    assert context(tmp_path).timestamp().endswith("Z")
    assert len(context(tmp_path).timestamp()) == len("2026-11-24T09:57:36.649Z")
