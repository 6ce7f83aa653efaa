from __future__ import annotations

from pathlib import Path

import pytest

from mcpops.core.errors import UsageError
from mcpops.runbook.search import SearchPath, share_root


def test_the_project_comes_first_and_hides_ours_of_the_same_name(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    for root, names in {own: ("deploy.yml",), shared: ("deploy.yml", "backup.yaml")}.items():
        (root / "playbooks").mkdir(parents=True)
        for name in names:
            (root / "playbooks" / name).write_text("")
    search = SearchPath((own, shared))
    assert search.find_runbook("deploy") == own / "playbooks" / "deploy.yml"
    assert search.find_runbook("backup") == search.find_runbook("backup.yaml") == shared / "playbooks" / "backup.yaml"
    with pytest.raises(UsageError, match="no runbook 'restore'") as caught:
        search.find_runbook("restore")
    assert "backup, deploy" in caught.value.hint


def test_only_directories_that_are_there_are_searched(tmp_path: Path) -> None:
    (tmp_path / "roles").mkdir()
    search = SearchPath((tmp_path, tmp_path / "none"))
    assert search.roles_path == (tmp_path / "roles",)
    assert search.runbooks() == {}


def test_ours_are_found_in_the_checkout() -> None:
    assert (share_root() / "playbooks").is_dir()
    assert SearchPath.of(share_root()).roots == (share_root(),)
