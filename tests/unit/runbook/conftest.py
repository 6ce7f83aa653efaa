from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a role that can be taken back and probed (`ok`), and one that cannot (`bare`)."""
    for role, files in {"ok": ("main", "undo", "probe"), "bare": ("main",)}.items():
        tasks = tmp_path / "roles" / role / "tasks"
        tasks.mkdir(parents=True)
        for name in files:
            (tasks / f"{name}.yml").write_text("[]\n")
    (tmp_path / "playbooks").mkdir()
    return tmp_path
