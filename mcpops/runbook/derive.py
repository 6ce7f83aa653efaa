"""From a step to the plays that take it back or look whether it happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import yaml

from mcpops.core.errors import InternalError
from mcpops.model.step import Step
from mcpops.runbook.nodes import items, mapping, scalar, sequence
from mcpops.runbook.uses import RoleUse, role_uses

# The work of the play and what notifies it; everything else (hosts, vars, become, connection, …) stays as it is.
_WORK = frozenset({"name", "roles", "tasks", "pre_tasks", "post_tasks", "handlers"})


def undo_play(step: Step) -> str:
    """Return a play that takes the step back: `tasks/undo.yml` of its roles, the last one first."""
    play = _play(step)
    return _text(play, f"undo: {step.name}", _tasks(play, "undo")[::-1])


def probe_plays(step: Step) -> tuple[str, ...]:
    """Return a play for each use of a role, that tells by `tasks/probe.yml` whether it happened.

    One for each, because every role says its `probe` by set_stats: in one play the last would speak for all.
    """
    play = _play(step)
    return tuple(_text(play, f"probe: {step.name}", [task]) for task in _tasks(play, "probe"))


def _play(step: Step) -> yaml.Node:
    root = yaml.compose(step.body, yaml.SafeLoader)
    if not isinstance(root, yaml.SequenceNode) or len(root.value) != 1:
        msg = f"step {step.name!r} is not one play"
        raise InternalError(msg)
    play: yaml.Node = root.value[0]
    return play


def _tasks(play: yaml.Node, what: Literal["undo", "probe"]) -> list[yaml.Node]:
    """Return the task for each use of a role, in order; what is said twice in the same words is done once."""
    tasks = [_task(use, what) for use in role_uses(play)]
    return list({yaml.serialize(task): task for task in tasks}.values())


def _task(use: RoleUse, what: str) -> yaml.Node:
    call = mapping(("name", scalar(use.role)), ("tasks_from", scalar(what)), *use.options.items())
    task = mapping(("name", scalar(f"{what} {use.role}")), ("ansible.builtin.import_role", call), *use.settings.items())
    for block in reversed([block for block in use.around if block]):
        task = mapping(*block.items(), ("block", sequence(task)))
    return task


def _text(play: yaml.Node, name: str, tasks: Sequence[yaml.Node]) -> str:
    kept = [(key, node) for key, node in items(play).items() if key not in _WORK]
    derived = mapping(("name", scalar(name)), *kept, ("tasks", sequence(*tasks)))
    return str(yaml.serialize(sequence(derived), allow_unicode=True, width=120))
