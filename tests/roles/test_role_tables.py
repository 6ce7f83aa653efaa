"""What a role declares, defaults to and documents is one and the same."""

from __future__ import annotations

import pytest

from tests.roles.role_tables import BEGIN, ROLES, defaults, options, table, with_table

NAMES = sorted(path.parents[1].name for path in ROLES.glob("*/meta/argument_specs.yml"))


@pytest.mark.parametrize("role", NAMES)
def test_specs_and_defaults_agree(role: str) -> None:
    declared = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert declared == defaults(role)
    required = [name for name, option in options(role).items() if option.get("required")]
    assert not set(required) & set(defaults(role)), "a required variable has no default"


@pytest.mark.parametrize("role", NAMES)
def test_variables_carry_the_name_of_their_role_and_a_description(role: str) -> None:
    for name, option in options(role).items():
        assert name.startswith(f"{role}_"), name
        assert option["description"], name


@pytest.mark.parametrize("role", [name for name in NAMES if (ROLES / name / "README.md").exists()])
def test_the_readme_shows_the_specs(role: str) -> None:
    text = (ROLES / role / "README.md").read_text()
    assert BEGIN in text, "a README has the table of variables between its two markers"
    assert with_table(text, role) == text, "run: python -m tests.roles.role_tables"
    assert all(f"`{name}`" in table(role) for name in options(role))
