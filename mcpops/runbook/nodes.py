"""YAML nodes with their places: values for us to read, while tags (`!vault`) and templates stay untouched."""

from __future__ import annotations

from typing import Any

import yaml

# What a play may be called with to bring a role in as a task.
ROLE_TASKS = frozenset(
    prefix + name for prefix in ("", "ansible.builtin.", "ansible.legacy.") for name in ("import_role", "include_role")
)
_BLOCKS = ("block", "rescue", "always")


def items(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """Return the entries of a mapping node by key; nothing for any other node. The last of two equal keys wins."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {str(key.value): value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def plain(node: yaml.Node) -> Any:  # noqa: ANN401 - any YAML value
    """Return a node as plain Python values; a text with a tag of its own (`!vault`, `!unsafe`) as its raw text."""
    if isinstance(node, yaml.MappingNode):
        return {str(plain(key)): plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [plain(value) for value in node.value]
    loader = yaml.SafeLoader("")
    if node.tag in loader.yaml_constructors:
        return loader.construct_object(node)
    return node.value


def line(node: yaml.Node) -> int:
    """Return the first line of a node, counted from 1."""
    return int(node.start_mark.line) + 1


def mapping(*pairs: tuple[str, yaml.Node]) -> yaml.MappingNode:
    """Return a mapping node of the pairs, in their order."""
    return yaml.MappingNode("tag:yaml.org,2002:map", [(scalar(key), value) for key, value in pairs])


def sequence(*values: yaml.Node) -> yaml.SequenceNode:
    """Return a sequence node."""
    return yaml.SequenceNode("tag:yaml.org,2002:seq", list(values))


def scalar(text: str) -> yaml.ScalarNode:
    """Return a text node."""
    return yaml.ScalarNode("tag:yaml.org,2002:str", text)


def role_uses(play: yaml.Node) -> list[tuple[str, yaml.Node, dict[str, yaml.Node]]]:
    """Return the roles that a play lists, in the order in which they run: name, place, and what is set for them.

    Both ways count: entries of `roles:`, and tasks that import or include a role, in blocks too. What is set
    are the keys that also make sense on a task: `vars`, `when`, `become` and the like.
    """
    entries = items(play)
    uses: list[tuple[str, yaml.Node, dict[str, yaml.Node]]] = []
    uses += _in_tasks(entries.get("pre_tasks"))
    roles = entries.get("roles")
    if isinstance(roles, yaml.SequenceNode):
        uses += [_role_entry(node) for node in roles.value]
    uses += _in_tasks(entries.get("tasks")) + _in_tasks(entries.get("post_tasks"))
    return uses


_ON_A_TASK = ("vars", "when", "become", "become_user", "become_method", "environment", "delegate_to", "run_once")


def _role_entry(node: yaml.Node) -> tuple[str, yaml.Node, dict[str, yaml.Node]]:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value), node, {}
    entries = items(node)
    name = entries.get("role", entries.get("name"))
    kept = {key: value for key, value in entries.items() if key in _ON_A_TASK}
    return (str(name.value) if isinstance(name, yaml.ScalarNode) else ""), node, kept


def _in_tasks(node: yaml.Node | None) -> list[tuple[str, yaml.Node, dict[str, yaml.Node]]]:
    uses: list[tuple[str, yaml.Node, dict[str, yaml.Node]]] = []
    for task in node.value if isinstance(node, yaml.SequenceNode) else ():
        entries = items(task)
        for key in ROLE_TASKS & entries.keys():
            name = items(entries[key]).get("name")
            if isinstance(name, yaml.ScalarNode):
                kept = {word: value for word, value in entries.items() if word in _ON_A_TASK}
                uses.append((str(name.value), task, kept))
        for key in _BLOCKS:
            uses += _in_tasks(entries.get(key))
    return uses
