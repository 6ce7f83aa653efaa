"""The tables of variables in the roles' README files, generated from meta/argument_specs.yml.

python -m tests.roles.role_tables      writes them anew
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).parents[2] / "roles"
BEGIN, END = "<!-- begin variables -->", "<!-- end variables -->"


def options(role: str) -> dict[str, dict[str, Any]]:
    specs = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())
    return dict(specs["argument_specs"]["main"].get("options", {}))


def defaults(role: str) -> dict[str, Any]:
    path = ROLES / role / "defaults/main.yml"
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def cell(text: Any) -> str:
    words = " ".join(text) if isinstance(text, list) else str(text)
    # Ansible's C(...) is Markdown's `...`
    return re.sub(r"C\(([^)]*)\)", r"`\1`", words).replace("|", "\\|")


def table(role: str) -> str:
    rows = ["| Variable | Type | Default | Meaning |", "|---|---|---|---|"]
    for name, option in options(role).items():
        kind = option.get("type", "str") + (f" of {option['elements']}" if "elements" in option else "")
        shown = "required" if option.get("required") else "`" + cell(json.dumps(option.get("default"))) + "`"
        meaning = cell(option["description"])
        if "choices" in option:
            meaning += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        rows.append(f"| `{name}` | {kind} | {shown} | {meaning} |")
    return "\n".join(rows)


def with_table(readme: str, role: str) -> str:
    head, rest = readme.split(BEGIN)
    return f"{head}{BEGIN}\n{table(role)}\n{END}{rest.split(END)[1]}"


def main() -> None:
    for readme in sorted(ROLES.glob("*/README.md")):
        if BEGIN in (text := readme.read_text()):
            readme.write_text(with_table(text, readme.parent.name))


if __name__ == "__main__":
    main()
