from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from mcpops.ansible import private


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, object]:
    for name in ("playbooks/deploy.yml", "playbooks/vars/a.yml", "roles/r/tasks/main.yml", "ansible.cfg"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"original {name}")
    return {"tree": str(tmp_path / "tree"), "runbook": "deploy.yml", "play": "the step", "variables": {}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "private"
    path.mkdir(mode=0o700)
    return path


def test_the_step_stands_where_the_runbook_stood_and_the_snapshot_is_untouched(
    spec: dict[str, object], root: Path, tmp_path: Path
) -> None:
    private.fill(root, spec)
    assert (root / "project" / "playbooks" / "deploy.yml").read_text() == "the step"
    assert (root / "project" / "playbooks" / "vars" / "a.yml").read_text() == "original playbooks/vars/a.yml"
    assert (root / "project" / "roles" / "r" / "tasks" / "main.yml").is_file()
    assert (tmp_path / "tree" / "playbooks" / "deploy.yml").read_text() == "original playbooks/deploy.yml"


def test_what_holds_secrets_is_private(spec: dict[str, object], root: Path) -> None:
    private.fill(root, spec)
    for name in ("variables.yml", "env/settings", "project/playbooks/deploy.yml"):
        assert stat.S_IMODE((root / name).stat().st_mode) == 0o600, name


def test_a_runbook_name_cannot_lead_out(root: Path) -> None:
    assert private.step_path(root, "../../etc/passwd") == root / "project" / "playbooks" / "passwd"


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_constructor("!unsafe", lambda loader, node: ("unsafe", loader.construct_scalar(node)))


def test_text_with_a_template_in_it_is_data(spec: dict[str, object], root: Path) -> None:
    spec["variables"] = {"a": "{{ lookup('pipe', 'id') }}", "b": ["{% raw %}", {"c": "plain"}], "d": 1, "e": "yes"}
    private.fill(root, spec)
    read = yaml.load((root / "variables.yml").read_text(), _Loader)
    assert read == {
        "a": ("unsafe", "{{ lookup('pipe', 'id') }}"),
        "b": [("unsafe", "{% raw %}"), {"c": "plain"}],
        "d": 1,
        "e": "yes",
    }


def test_directories_of_dead_attempts_are_found_by_their_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "base_directory", lambda: tmp_path)
    mine, other = private.create("run-1:7:1"), private.create("run-2:7:1")
    (tmp_path / "mcpops-foreign").mkdir()
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700
    assert private.abandoned(lambda marker: marker.startswith("run-1:")) == [mine]
    private.remove(mine)
    private.remove(mine)
    assert other.is_dir()
