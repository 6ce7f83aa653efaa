from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mcpops.core.errors import UsageError
from mcpops.core.tree import tree_digest
from mcpops.runbook.search import SearchPath
from mcpops.runbook.snapshot import snapshot


def write(path: Path, text: str = "x", mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@pytest.fixture
def search(tmp_path: Path) -> SearchPath:
    own, shared = tmp_path / "own", tmp_path / "shared"
    write(own / "playbooks" / "deploy.yml", "own")
    write(own / "roles" / "front" / "tasks" / "main.yml", "own")
    write(own / "inventories" / "lab" / "hosts.yml", "hosts")
    write(own / "inventories" / "lab" / "group_vars" / "secret.yml", "hush", 0o600)
    write(own / ".git" / "config")
    write(own / "plugins" / "lookup" / "__pycache__" / "a.pyc")
    write(own / "wheelhouse" / "a.whl")
    write(shared / "playbooks" / "deploy.yml", "shared")
    write(shared / "playbooks" / "other.yml", "shared")
    write(shared / "roles" / "front" / "tasks" / "undo.yml", "shared")
    write(shared / "roles" / "hostside" / "files" / "tool", "shared", 0o755)
    write(shared / "plugins" / "modules" / "m.py", "shared")
    write(shared / "ansible.cfg", "shared")
    return SearchPath((own, shared))


def taken(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_what_is_in_force_is_copied_and_nothing_else(search: SearchPath, tmp_path: Path) -> None:
    target = tmp_path / "runs" / "snapshot"
    digest = snapshot(search, search.roots[0] / "inventories" / "lab", target)
    assert taken(target) == {
        "playbooks/deploy.yml": "own",
        "playbooks/other.yml": "shared",
        "roles/front/tasks/main.yml": "own",  # and no undo.yml of the other front
        "roles/hostside/files/tool": "shared",
        "plugins/modules/m.py": "shared",
        "ansible.cfg": "shared",
        "inventory/hosts.yml": "hosts",
        "inventory/group_vars/secret.yml": "hush",
    }
    assert digest == tree_digest(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert stat.S_IMODE((target / "inventory" / "group_vars" / "secret.yml").stat().st_mode) == 0o600
    assert stat.S_IMODE((target / "roles" / "hostside" / "files" / "tool").stat().st_mode) == 0o755


def test_the_digest_sees_content_mode_and_name_and_nothing_else(search: SearchPath, tmp_path: Path) -> None:
    inventory = search.roots[0] / "inventories" / "lab"
    play = search.roots[0] / "playbooks" / "deploy.yml"

    def digest(name: str) -> str:
        return snapshot(search, inventory, tmp_path / name)

    first = digest("a")
    write(search.roots[0] / ".git" / "config", "changed")
    assert digest("b") == first
    play.write_text("edited")
    second = digest("c")
    play.chmod(0o600)
    third = digest("d")
    play.rename(play.with_name("renamed.yml"))
    assert len({first, second, third, digest("e")}) == 4
    assert tree_digest(tmp_path / "a") == first  # what was copied is not touched by any of it


def test_a_link_to_nothing_is_an_error_and_leaves_no_half_snapshot(search: SearchPath, tmp_path: Path) -> None:
    (search.roots[0] / "playbooks" / "gone.yml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="cannot be copied") as caught:
        snapshot(search, search.roots[0] / "inventories" / "lab", tmp_path / "runs" / "snapshot")
    assert "gone.yml" in caught.value.detail
    assert list((tmp_path / "runs").iterdir()) == []


def test_links_are_followed_and_a_link_to_above_ends(search: SearchPath, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "vars.yml", "linked")
    (search.roots[0] / "playbooks" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(search.roots[0] / "playbooks")
    snapshot(search, search.roots[0] / "inventories" / "lab", tmp_path / "s")
    assert (tmp_path / "s" / "playbooks" / "more" / "vars.yml").read_text() == "linked"
    assert not any(path.is_symlink() for path in (tmp_path / "s").rglob("*"))


def test_a_snapshot_is_never_written_over(search: SearchPath, tmp_path: Path) -> None:
    inventory = search.roots[0] / "inventories" / "lab"
    before = snapshot(search, inventory, tmp_path / "s")
    with pytest.raises(UsageError, match="there already"):
        snapshot(search, inventory, tmp_path / "s")
    assert tree_digest(tmp_path / "s") == before
