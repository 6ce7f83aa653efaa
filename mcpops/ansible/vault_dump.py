"""Print every value of a tree that Ansible's vault keeps, as one JSON object: `python -m mcpops.ansible.vault_dump`.

Who redacts must know them all, so this reads more than a play would: each encrypted file below a directory, each
`!vault` in the others, and the variables of the inventory's hosts (a program may make them). What no password here
decrypts, a run cannot decrypt either, and so cannot tell; for a variable of the inventory it is an error.

Standard input: `{"below": path, "sources": [path], "playbook_dir": path, "extra": {name: value}}`. Output:
`{"values": [text], "errors": [text], "encrypted": "file:line"}`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mcpops.ansible.inventory_dump import Opened, place, serve
from mcpops.core.tree import files

HEADER = b"$ANSIBLE_VAULT;"
# A header, then lines of hexadecimal digits: as they stand in YAML, or with `\n` in a JSON text.
_CIPHERTEXT = re.compile(rb"\$ANSIBLE_VAULT;[0-9.]+;\w+(?:;[^\s\"'\\]+)?(?:(?:\\n|\s)+[0-9a-f]+(?=\\n|[\s\"']|$))+")
_BREAK = re.compile(rb"(?:\\n|\s)+")
# Where a file is not YAML: KEY=value, or key: value; the value alone may be what a message shows.
_ASSIGNED = re.compile(r"""[=:][ \t]*(?:"([^"\n]+)"|'([^'\n]+)'|([^\s"']+))""")
_NO_TEXT = frozenset({"tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"})


def dump(below: str, sources: list[str], playbook_dir: str, extra: dict[str, str]) -> dict[str, Any]:
    """Return the values, without duplicates, and what of the inventory cannot be decrypted."""
    from ansible.errors import AnsibleError  # noqa: PLC0415 - see Opened
    from ansible.parsing.vault import VaultLib  # noqa: PLC0415

    opened = Opened(sources, playbook_dir, extra)
    vault = VaultLib(opened.passwords)
    answer: dict[str, Any] = {"errors": [], "encrypted": ""}
    values: set[str] = set()
    for path in files(Path(below)):
        values.update(_in_file(path.read_bytes(), vault))
    try:
        for host, variables in opened.hosts(hostvars=False):
            for name, value in variables.items():
                try:
                    values.update(_in_variable(value))
                except AnsibleError as error:
                    answer["errors"].append(f"{host}: {name}: {error}")
                    answer["encrypted"] = answer["encrypted"] or place(value)
    except AnsibleError as error:
        answer["errors"].append(str(error))
    return {**answer, "values": sorted(values)}


def _in_file(raw: bytes, vault: Any) -> Iterator[str]:  # noqa: ANN401 - a VaultLib
    """Yield what a file keeps encrypted: texts of a whole file, or single values."""
    if raw.startswith(HEADER):
        plain = _decrypted(raw, vault)
        yield from texts(plain)
        raw = plain.encode()
    for found in _CIPHERTEXT.finditer(raw):
        header, *lines = _BREAK.split(found.group())
        plain = _decrypted(header + b"\n" + b"\n".join(lines), vault)
        if plain:
            yield plain


def _decrypted(ciphertext: bytes, vault: Any) -> str:  # noqa: ANN401
    """Return the text, or nothing: without the password, or of what is no text."""
    from ansible.errors import AnsibleError  # noqa: PLC0415

    try:
        return str(vault.decrypt(ciphertext).decode())
    except (AnsibleError, UnicodeDecodeError):
        return ""


def _in_variable(value: Any) -> Iterator[str]:  # noqa: ANN401 - any value of Ansible's
    """Yield the vaulted values in a variable; raise AnsibleError for one that cannot be decrypted."""
    from ansible.parsing.vault import VaultHelper  # noqa: PLC0415

    if isinstance(value, Mapping):
        for item in value.values():
            yield from _in_variable(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _in_variable(item)
    elif VaultHelper.get_ciphertext(value, with_tags=False) is not None:
        yield str(value)


def texts(plain: str) -> Iterator[str]:
    """Yield the values of a YAML or JSON file, without its keys; of any other file all of it, and what it assigns."""
    try:
        root = yaml.compose(plain, yaml.SafeLoader)
    except yaml.YAMLError:
        root = None
    if isinstance(root, (yaml.MappingNode, yaml.SequenceNode)):
        yield from _in_node(root)
    elif plain.strip():
        yield plain
        for found in _ASSIGNED.finditer(plain):
            yield next(filter(None, found.groups()))


def _in_node(node: yaml.Node) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _in_node(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _in_node(value)
    elif node.tag not in _NO_TEXT:
        yield str(node.value)


if __name__ == "__main__":
    sys.exit(serve(dump))
