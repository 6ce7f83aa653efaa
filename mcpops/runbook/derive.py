"""From a step to the plays that take it back or look whether it happened."""

from __future__ import annotations

from typing import Literal

import yaml

from mcpops.core.errors import InternalError
from mcpops.model.step import Step
from mcpops.runbook.nodes import items, mapping, role_uses, scalar, sequence

# The work of the play and what notifies it; everything else (hosts, vars, become, connection, …) stays as it is.
_WORK = frozenset({"name", "roles", "tasks", "pre_tasks", "post_tasks", "handlers"})


def undo_play(step: Step) -> str:
    """Return a play that takes the step back: `tasks/undo.yml` of its roles, the last one first."""
    return _derive(step, "undo")


def probe_play(step: Step) -> str:
    """Return a play that tells whether the step happened: `tasks/probe.yml` of its roles, the last one first."""
    return _derive(step, "probe")


def _derive(step: Step, what: Literal["undo", "probe"]) -> str:
    root = yaml.compose(step.body, yaml.SafeLoader)
    if not isinstance(root, yaml.SequenceNode) or len(root.value) != 1:
        msg = f"step {step.name!r} is not one play"
        raise InternalError(msg)
    play = root.value[0]
    tasks = []
    seen: set[str] = set()
    for role, _, settings in role_uses(play):
        # One role may be used several times (tasks_from); with the same settings it is taken back once.
        identity = role + yaml.serialize(mapping(*settings.items()))
        if identity not in seen:
            tasks.append(_role_task(role, what, settings))
            seen.add(identity)
    kept = [(key, node) for key, node in items(play).items() if key not in _WORK]
    derived = mapping(("name", scalar(f"{what}: {step.name}")), *kept, ("tasks", sequence(*reversed(tasks))))
    return str(yaml.serialize(sequence(derived), allow_unicode=True, width=120))


def _role_task(role: str, what: str, settings: dict[str, yaml.Node]) -> yaml.MappingNode:
    call = mapping(("name", scalar(role)), ("tasks_from", scalar(what)))
    return mapping(("name", scalar(f"{what} {role}")), ("ansible.builtin.import_role", call), *settings.items())
