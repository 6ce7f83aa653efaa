"""Release files: what they become, and that every mistake is told with its line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from mcpops.core.canonical import digest
from mcpops.core.errors import UsageError
from mcpops.deploy.release import load_release

ROOT = Path(__file__).parents[3]
CASES = yaml.safe_load((Path(__file__).parent / "release_cases.yml").read_text())
LOCK = "tiny==1.0 --hash=sha256:00\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "tiny.lock").write_text(LOCK)
    (tmp_path / "bare.lock").write_text("tiny==1.0\n")
    (tmp_path / "tool.py").write_text("print()\n")
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_bad_file_is_told_with_its_lines(directory, case):
    path = directory / "r.yml"
    path.write_text(case["given"])
    with pytest.raises(UsageError) as caught:
        load_release(path)
    told = [line.removeprefix(f"{path}:") for line in caught.value.detail.splitlines()]
    if "lines" in case:
        assert [int(line.split(":")[0]) for line in told] == case["lines"]
        assert caught.value.where == f"{path}:{case['lines'][0]}"
    assert case["says"] in caught.value.message + caught.value.detail
    assert case.get("hint", "") in caught.value.hint
    assert "hush" not in caught.value.message + caught.value.detail, "a value of the environment may be a secret"


def test_a_good_file_becomes_a_manifest_without_paths_of_this_machine(directory):
    path = directory / "r.yml"
    path.write_text(
        "name: r-1\nartifact: {kind: requirements, lock: tiny.lock}\nfiles: [tool.py]\n"
        "command: [tiny, --port, '{port}']\nlimits: {pids: 3}\ncanary: {tool: a}\n"
    )
    release = load_release(path)
    manifest = release.manifest()
    assert manifest["artifact"]["sha256"] == hashlib.sha256(LOCK.encode()).hexdigest()
    assert manifest["files"] == {"tool.py": hashlib.sha256(b"print()\n").hexdigest()}
    assert manifest["limits"] == {"memory": "256m", "cpus": 0.5, "pids": 3}
    assert manifest["canary"] == {"tool": "a", "arguments": {}}
    assert manifest.pop("digest") == digest(manifest)
    assert str(directory) not in str(release.bundle())
    assert set(release.bundle()["contents"]) == {"tiny.lock", "tool.py"}


def test_any_change_is_another_digest(directory):
    path = directory / "r.yml"
    text = "name: r-1\nartifact: {kind: requirements, lock: tiny.lock}\ncommand: [tiny]\n"
    path.write_text(text)
    first = load_release(path).manifest()["digest"]
    (directory / "tiny.lock").write_text(LOCK + "# \n")
    second = load_release(path).manifest()["digest"]
    path.write_text(text + "environment: {A: b}\n")
    assert len({first, second, load_release(path).manifest()["digest"]}) == 3


def test_a_file_that_is_not_there_names_those_that_are(directory):
    (directory / "other.yml").write_text("")
    with pytest.raises(UsageError, match="no release file") as caught:
        load_release(directory / "r.yml")
    assert "other" in caught.value.detail


@pytest.mark.parametrize("path", sorted((ROOT / "releases").glob("*.yml")), ids=lambda path: path.stem)
def test_the_releases_of_this_project_are_good(path):
    assert load_release(path).name == path.stem
