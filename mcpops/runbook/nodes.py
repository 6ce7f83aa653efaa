"""YAML nodes with their places: values for us to read, while tags (`!vault`) and templates stay untouched."""

from __future__ import annotations

from typing import Any

import yaml


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
