"""The reference is what the code says: nothing stale, nothing undocumented."""

from __future__ import annotations

import re
import tomllib

import click
import pytest
import yaml

from mcpops.core.errors import EXIT_MEANING, ExitCode
from mcpops.runbook.schema import STEP_SCHEMA
from tests.docs.generate import NEXT, PAGES, REFERENCE, ROOT, all_commands, common, options_of, readmes, role_names
from tests.roles.role_tables import BEGIN, ROLES, defaults, options

# The contract: scripts rely on these. Never change one; a new one goes below.
CODES = {
    0: "ok", 1: "failed", 2: "usage", 3: "unknown", 4: "busy", 5: "rolled_back", 6: "waiting", 7: "broken",
    8: "fenced", 9: "refused", 10: "internal", 130: "interrupted",
}  # fmt: skip

# What a role is made of, and which role legitimately lacks what.
ROLE_FILES = (
    "tasks/main.yml", "tasks/verify.yml", "tasks/undo.yml", "tasks/probe.yml",
    "meta/argument_specs.yml", "meta/main.yml", "defaults/main.yml", "README.md",
)  # fmt: skip
LACKS = {
    "certificate": {
        # Issuing is idempotent and takes nothing from anybody: a certificate more does no harm and needs no undo, a
        # second run is the probe, and `served_certificate` in the deploy's preflight proves what is served.
        "tasks/verify.yml",
        "tasks/undo.yml",
        "tasks/probe.yml",
    },
}


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_of_the_reference_is_not_stale(name):
    assert (REFERENCE / name).read_text() == PAGES[name](), "run: make docs"


def test_there_is_no_other_page_in_the_reference():
    assert {path.name for path in REFERENCE.iterdir()} == set(PAGES)


def test_the_tables_of_the_roles_are_not_stale():
    assert [path.parent.name for path, text in readmes().items() if path.read_text() != text] == [], "run: make docs"


@pytest.mark.parametrize(("name", "command"), all_commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_and_option_is_documented(name, command):
    section = _section(name)
    assert command.help, f"{name} says nothing of itself"
    for option in options_of(command):
        assert f"`{', '.join(option.opts)}" in section, f"{name} {option.opts}"
        assert option.help, f"{name} {option.opts} says nothing of itself"


@pytest.mark.parametrize(("name", "command"), all_commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_takes_the_common_options(name, command):
    if not isinstance(command, click.Group):
        known = {option for parameter in command.params for option in parameter.opts}
        assert {option.opts[0] for option in common()} <= known


def _section(name: str) -> str:
    page = (REFERENCE / "commands.md").read_text()
    found = re.search(rf"^#+ {re.escape(name)}$(.*?)(?=^#|\Z)", page, flags=re.MULTILINE | re.DOTALL)
    assert found, f"no section for {name}"
    return found[1]


def test_the_exit_codes_are_those_of_the_contract():
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", (REFERENCE / "exit-codes.md").read_text(), flags=re.MULTILINE)
    assert {int(code): word for code, word in rows} == CODES
    assert {int(code): code.word for code in ExitCode} == CODES
    assert set(EXIT_MEANING) == set(NEXT) == set(ExitCode)


def test_the_readme_has_every_exit_code():
    rows = re.findall(r"^\| (\d+) \|", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert {int(code) for code in rows} == set(CODES)


def test_exit_status_in_a_help_text_names_the_codes_rightly():
    for name, command in all_commands():
        for code, word in re.findall(r"(\d+) ([a-z]+(?: back)?)[,.]", command.epilog or ""):
            if word in {"ok", "failed", "usage", "unknown", "busy", "rolled back", "waiting", "broken", "fenced"}:
                assert CODES[int(code)].replace("_", " ") == word, name


def test_every_key_of_a_step_is_documented():
    page = (REFERENCE / "step.md").read_text()
    assert [key for key in STEP_SCHEMA["properties"] if f"| `{key}` |" not in page] == []


def test_every_dependency_is_justified_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = {
        "What every installation has": project["project"]["dependencies"],
        "Extras": [one for extra in extras.values() for one in extra],
        "Development": project["dependency-groups"]["dev"],
    }
    page = (ROOT / "docs/explanation/dependencies.md").read_text()
    for title, requirements in wanted.items():
        section = page.split(f"## {title}\n")[1].split("\n## ")[0]
        rows = dict(re.findall(r"^\| ([A-Za-z0-9_-]+) \| (.+) \|$", section, flags=re.MULTILINE))
        rows.pop("Package", None)
        assert sorted(rows) == sorted(re.split(r"[\[=<>~! ]", one)[0] for one in requirements), title
        assert all(len(why) > 4 for why in rows.values()), title


MODULES = {"ansible-core": "ansible", "ansible-runner": "ansible_runner", "pyyaml": "yaml"}


def test_a_dependency_is_imported_or_the_page_says_that_it_is_not():
    sources = "\n".join(path.read_text() for name in ("mcpops", "plugins") for path in (ROOT / name).rglob("*.py"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs/explanation/dependencies.md").read_text()
    for name in [re.split(r"[=<>~! ]", one)[0] for one in project["dependencies"]]:
        module = re.escape(MODULES.get(name, name))
        imported = re.search(rf"^\s*(from|import) {module}\b", sources, flags=re.MULTILINE) is not None
        assert imported is (f"| {name} | nothing imports it yet" not in page), name


@pytest.mark.parametrize("role", role_names())
def test_a_role_has_all_its_parts(role):
    missing = {name for name in ROLE_FILES if not (ROLES / role / name).is_file()}
    assert missing == LACKS.get(role, set())


@pytest.mark.parametrize("role", role_names())
def test_specs_and_defaults_are_one(role):
    declared = {name: option["default"] for name, option in options(role).items() if not option.get("required")}
    assert declared == defaults(role)
    assert BEGIN in (ROLES / role / "README.md").read_text()


@pytest.mark.parametrize("role", role_names())
def test_every_entry_point_that_a_spec_names_is_there(role):
    specs = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())["argument_specs"]
    assert [name for name in specs if not (ROLES / role / f"tasks/{name}.yml").is_file()] == []
