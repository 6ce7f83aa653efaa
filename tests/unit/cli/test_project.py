"""Finding the project, the environment and a release; and the errors that say what to do."""

from __future__ import annotations

import pytest

from mcpops.cli.common import Session, seconds
from mcpops.cli.plan import parse_parameters
from mcpops.cli.project import find_environment, find_project
from mcpops.core.errors import UsageError


@pytest.fixture
def project(tmp_path):
    for name in ("lab", "local"):
        (tmp_path / "inventories" / name).mkdir(parents=True)
    return tmp_path


def test_the_project_is_found_from_a_directory_below_it(project, monkeypatch):
    (project / "docs/deep").mkdir(parents=True)
    monkeypatch.chdir(project / "docs/deep")

    assert find_project(Session()) == project


def test_no_project_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=str(tmp_path)):
        find_project(Session())


def test_a_project_needs_inventories(tmp_path):
    with pytest.raises(UsageError, match="is no project"):
        find_project(Session(project=tmp_path))


def test_two_environments_and_no_default_asks_which(project):
    with pytest.raises(UsageError, match="which environment") as caught:
        find_environment(Session(project=project))

    assert "lab, local" in caught.value.detail


def test_the_only_environment_needs_no_name(project):
    (project / "inventories/lab").rmdir()

    assert find_environment(Session(project=project)).name == "local"


def test_the_default_environment_is_the_projects(project):
    (project / "mcpops.yml").write_text("default_environment: lab\n")

    assert find_environment(Session(project=project)).name == "lab"
    assert find_environment(Session(project=project, environment="local")).name == "local"


@pytest.mark.parametrize(
    ("text", "said"), [("defualt_environment: lab\n", "unknown key"), ("default_environment: [\n", "cannot be read")]
)
def test_a_bad_settings_file_is_named_with_its_place(project, text, said):
    (project / "mcpops.yml").write_text(text)

    with pytest.raises(UsageError, match=said) as caught:
        find_environment(Session(project=project))

    assert "mcpops.yml" in caught.value.where


def test_an_unknown_environment_lists_the_known(project):
    with pytest.raises(UsageError) as caught:
        find_environment(Session(project=project, environment="prod"))

    assert "lab, local" in caught.value.hint


def test_a_release_of_the_environment_comes_before_the_projects(project):
    environment = find_environment(Session(project=project, environment="lab"))
    for home in (project, environment.state):
        (home / "releases").mkdir(parents=True)
        (home / "releases/r1.yml").write_text("name: r1\n")

    assert environment.release_file("r1") == environment.state / "releases/r1.yml"
    assert environment.release_file(str(project / "releases/r1.yml")) == project / "releases/r1.yml"


def test_an_unknown_release_lists_the_known(project):
    (project / "releases").mkdir()
    (project / "releases/r1.yml").write_text("name: r1\n")

    with pytest.raises(UsageError) as caught:
        find_environment(Session(project=project, environment="lab")).release_file("r2")

    assert caught.value.hint == "known releases: r1"


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("0", 0), ("7d", 604_800)]
)
def test_durations(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "s", "1w", "-5", "1.5h", "5 m"])
def test_bad_durations(text):
    with pytest.raises(UsageError, match="no duration"):
        seconds(text)


def test_parameters_are_key_value_pairs():
    assert parse_parameters(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize("pair", ["a", "=1", "a-b=1", "1a=2"])
def test_bad_parameters(pair):
    with pytest.raises(UsageError, match="KEY=VALUE"):
        parse_parameters([pair])
