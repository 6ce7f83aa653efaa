"""What `vars: step:` of a play may say: validator, and the table of the documentation."""

from __future__ import annotations

from typing import Any

STEP_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "vars: step:",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "timeout_s": {
            "description": "The play is ended after this many seconds, and its verdict is unknown.",
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 86400,
            "default": 600,
            "examples": [120],
        },
        "gate": {
            "description": "A question instead of work: an approval, no freeze window, a backup that is young enough.",
            "type": "string",
            "enum": ["approval", "freeze", "backup_age"],
            "examples": ["approval"],
        },
        "direct": {
            "description": "mcpops does it over open channels instead of starting Ansible.",
            "type": "string",
            "enum": ["cutover", "bake"],
            "examples": ["cutover"],
        },
        "undo": {
            "description": "On failure each use of a role is taken back by its tasks/undo.yml, the last first, with "
            "all that the play says of it. A loop over a role, or a template as its name, cannot be.",
            "type": "boolean",
            "default": False,
            "examples": [True],
        },
        "commits": {
            "description": "The point of no return: once the step is good, a later failure takes nothing back.",
            "type": "boolean",
            "default": False,
            "examples": [True],
        },
        "on_interrupt": {
            "description": "After a crash in the step: probe (the roles' tasks/probe.yml), rerun, or ask a person. "
            "Without it: probe where the play does nothing but run roles that each have a tasks/probe.yml, else ask.",
            "type": "string",
            "enum": ["probe", "rerun", "ask"],
            "examples": ["rerun"],
        },
        "minimum_hosts": {
            "description": "Fewer hosts that took part make the verdict unknown. Without it, so does a host that "
            "skipped every task, or that meta: end_host took out before any.",
            "type": "integer",
            "minimum": 1,
            "examples": [2],
        },
        "minimum_checks": {
            "description": "Fewer tasks that really ran make the verdict unknown.",
            "type": "integer",
            "minimum": 1,
            "default": 1,
            "examples": [3],
        },
    },
}
