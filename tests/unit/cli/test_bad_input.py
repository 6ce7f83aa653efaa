"""Whatever stands in the way is a usage error with a way out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from mcpops.cli import app
from mcpops.cli.common import Session
from mcpops.cli.plan import parse_parameters
from mcpops.cli.project import find_environment, find_project
from mcpops.core.errors import ExitCode, UsageError

CASES = yaml.safe_load(Path(__file__).with_name("bad_input.yml").read_text(encoding="utf-8"))
SECRET = "hunter2"


def build(project: Path, case: dict) -> None:
    for name in ("inventories/lab", *case.get("directories", [])):
        (project / name).mkdir(parents=True, exist_ok=True)
    for name, text in case.get("files", {}).items():
        (project / name).write_text(text)
    for name, digits in case.get("bytes", {}).items():
        (project / name).write_bytes(bytes.fromhex(digits))
    for name, target in case.get("links", {}).items():
        (project / name).symlink_to(target)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_it_is_told_with_its_place_and_a_way_out(tmp_path, capsys, case):
    build(tmp_path, case)
    argv = [*case.get("argv", ["status"]), "-C", str(tmp_path)]

    assert app.main([*argv, "--json"]) == case.get("code", ExitCode.USAGE)
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert case["message"] in error["message"]
    assert error["hint"]
    assert error["where"].strip("'").endswith(case.get("where", ""))
    assert said.err == ""

    assert app.main(argv) == case.get("code", ExitCode.USAGE)
    text = capsys.readouterr()
    assert text.out == ""
    assert "mcpops: error: " in text.err
    assert SECRET not in said.out + text.err


def test_a_current_directory_that_was_deleted(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    with pytest.raises(UsageError, match="not there any more") as caught:
        find_project(Session())

    assert "-C DIR" in caught.value.hint
    (tmp_path / "inventories").mkdir()
    assert find_project(Session(project=tmp_path)) == tmp_path, "with -C it does not matter"
    assert Path.cwd() == tmp_path, "Ansible does not start where nothing is"


def test_a_project_whose_path_is_no_text(tmp_path):
    project = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    (project / "inventories").mkdir(parents=True)

    with pytest.raises(UsageError, match="not UTF-8"):
        find_project(Session(project=project))


LONG = "x" * 300  # file names have 255 bytes


def test_names_that_no_file_can_have(tmp_path):
    with pytest.raises(UsageError, match="cannot look for the project"):
        find_project(Session(project=tmp_path / LONG))
    (tmp_path / "inventories/lab").mkdir(parents=True)
    (tmp_path / "releases").mkdir()
    with pytest.raises(UsageError, match="cannot look for release") as caught:
        find_environment(Session(project=tmp_path)).release_file(LONG)
    assert caught.value.hint


def test_no_environment_at_all_says_how_to_make_one(tmp_path):
    (tmp_path / "inventories").mkdir()

    for name in (None, "lab"):
        with pytest.raises(UsageError, match="there is no environment in") as caught:
            find_environment(Session(project=tmp_path, environment=name))
        assert "inventories/NAME/hosts.yml" in caught.value.hint


@pytest.mark.parametrize("pair", [f"pass-word={SECRET}", f"={SECRET}"])
def test_a_value_is_not_shown_when_its_key_is_wrong(pair):
    with pytest.raises(UsageError) as caught:
        parse_parameters([pair])

    assert SECRET not in json.dumps(caught.value.to_json())
