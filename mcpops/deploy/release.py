"""A release: what runs in a slot, read from `releases/<name>.yml` and turned into the manifest that hosts get.

Reading is pure validation: every error is collected with file and line, unknown keys are errors, and nothing is
guessed. Reachability (does the registry have this image, is the wheel there) is for `stage` to find out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from mcpops.core.canonical import digest
from mcpops.core.errors import UsageError

NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # no slash: a release cannot name a file outside its directory
IMAGE = r"^[a-z0-9][a-z0-9._:/-]*@sha256:[0-9a-f]{64}$"
SHA256 = r"^[0-9a-f]{64}$"

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "artifact", "command"],
    "properties": {
        "name": {"type": "string", "pattern": NAME},
        "artifact": {
            "type": "object",
            "required": ["kind"],
            "properties": {"kind": {"enum": ["image", "requirements"]}},
            "allOf": [
                {
                    "if": {"properties": {"kind": {"const": "image"}}, "required": ["kind"]},
                    "then": {
                        "required": ["image"],
                        "additionalProperties": False,
                        "properties": {"kind": True, "image": {"type": "string", "pattern": IMAGE}},
                    },
                },
                {
                    "if": {"properties": {"kind": {"const": "requirements"}}, "required": ["kind"]},
                    "then": {
                        "required": ["lock"],
                        "additionalProperties": False,
                        "properties": {
                            "kind": True,
                            "lock": {"type": "string", "pattern": FILE_NAME},
                            "sha256": {"type": "string", "pattern": SHA256},
                        },
                    },
                },
            ],
        },
        "command": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "environment": {
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": "string", "pattern": "^[^\\x00]*$"},
        },
        "files": {"type": "array", "items": {"type": "string", "pattern": FILE_NAME}, "uniqueItems": True},
        "health_path": {"type": "string", "pattern": "^/"},
        "start_timeout_s": {"type": "number", "exclusiveMinimum": 0, "maximum": 600},
        "stop_timeout_s": {"type": "number", "exclusiveMinimum": 0, "maximum": 600},
        "canary": {
            "type": "object",
            "additionalProperties": False,
            "required": ["tool"],
            "properties": {"tool": {"type": "string", "minLength": 1}, "arguments": {"type": "object"}},
        },
        "removed_tools": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "limits": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "memory": {"type": "string", "pattern": "^[1-9][0-9]*[kmg]$"},
                "cpus": {"type": "number", "exclusiveMinimum": 0},
                "pids": {"type": "integer", "minimum": 1},
            },
        },
    },
}

HINTS = {
    "image": "an image is named by digest, NAME@sha256:..., never by tag: `docker inspect` shows RepoDigests",
    "lock": "the lock file lies beside the release file; give its name only",
    "files": "the files lie beside the release file; give their names only",
    "environment": "values are strings; quote numbers",
    "name": "small letters, digits, '.', '_' and '-'",
}

DEFAULT_LIMITS: dict[str, Any] = {"memory": "256m", "cpus": 0.5, "pids": 128}


@dataclass(frozen=True)
class Release:
    """A release as read and checked; `contents` are the texts of the lock file and the files, by name."""

    name: str
    path: Path
    artifact: dict[str, str]
    command: tuple[str, ...]
    environment: dict[str, str]
    files: dict[str, str]  # name -> sha256 of the content
    health_path: str
    start_timeout_s: float
    stop_timeout_s: float
    canary: dict[str, Any] | None
    removed_tools: tuple[str, ...]
    limits: dict[str, Any]
    contents: dict[str, str]

    def manifest(self) -> dict[str, Any]:
        """Return what hosts get and keep: JSON, with `digest` over everything else, naming no path of this machine."""
        body: dict[str, Any] = {
            "name": self.name,
            "artifact": dict(self.artifact),
            "command": list(self.command),
            "environment": dict(self.environment),
            "files": dict(self.files),
            "health_path": self.health_path,
            "start_timeout_s": self.start_timeout_s,
            "stop_timeout_s": self.stop_timeout_s,
            "canary": self.canary,
            "removed_tools": list(self.removed_tools),
            "limits": dict(self.limits),
        }
        return {**body, "digest": digest(body)}

    def bundle(self) -> dict[str, Any]:
        """Return `{"manifest", "contents"}`: what `slot stage --manifest -` reads from standard input."""
        return {"manifest": self.manifest(), "contents": dict(self.contents)}


@dataclass(frozen=True)
class _Problem:
    """One thing wrong in a release file."""

    line: int
    message: str
    hint: str = ""


def load_release(path: Path) -> Release:
    """Read a release file; raise UsageError that lists every error as `file:line: what`."""
    root, data = _parse(path)
    _refuse(path, [*_duplicates(root), *_schema_problems(data, root)])
    artifact = {key: str(value) for key, value in data["artifact"].items()}
    contents, problems = _read_contents(path, root, data)
    _refuse(path, problems)
    sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in contents.items()}
    if "lock" in artifact:
        _refuse(path, _lock_problems(root, artifact, sums[artifact["lock"]], contents[artifact["lock"]]))
        artifact["sha256"] = sums[artifact["lock"]]
    return Release(
        name=data["name"],
        path=path,
        artifact=artifact,
        command=tuple(data["command"]),
        environment=data.get("environment", {}),
        files={name: sums[name] for name in data.get("files", [])},
        health_path=data.get("health_path", "/status"),
        start_timeout_s=data.get("start_timeout_s", 30),
        stop_timeout_s=data.get("stop_timeout_s", 10),
        canary={"arguments": {}, **data["canary"]} if "canary" in data else None,
        removed_tools=tuple(data.get("removed_tools", [])),
        limits={**DEFAULT_LIMITS, **data.get("limits", {})},
        contents=contents,
    )


def _parse(path: Path) -> tuple[yaml.Node, dict[str, Any]]:
    """Return the file's YAML tree (for line numbers) and its value; raise UsageError when there is neither."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except FileNotFoundError as error:
        known = ", ".join(sorted(item.stem for item in path.parent.glob("*.yml"))) or "none"
        raise UsageError(f"no release file {path}", detail=f"in {path.parent}: {known}", where=str(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read", detail=str(error), where=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UsageError(f"{path} is not YAML", detail=str(error), where=where) from error
    if root is None or not isinstance(data, dict):
        raise UsageError(
            f"{path} holds no release", detail="expected a mapping with name, artifact, command", where=f"{path}:1"
        )
    return root, data


def _refuse(path: Path, problems: Iterable[_Problem]) -> None:
    """Raise one UsageError for all problems; the first one gives message, hint and place."""
    ordered = sorted(problems, key=lambda problem: problem.line)
    if not ordered:
        return
    first = ordered[0]
    raise UsageError(
        f"{path.name}: {first.message}",
        detail="\n".join(f"{path}:{problem.line}: {problem.message}" for problem in ordered),
        hint=next((problem.hint for problem in ordered if problem.hint), ""),
        where=f"{path}:{first.line}",
    )


def _duplicates(node: yaml.Node) -> Iterator[_Problem]:
    """Yield keys that are given twice: YAML's loader would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield _Problem(key.start_mark.line + 1, f"the key {key.value!r} is given twice")
            seen.add(key.value)
            yield from _duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _duplicates(item)


def _schema_problems(data: dict[str, Any], root: yaml.Node) -> Iterator[_Problem]:
    """Yield what the schema says against the file."""
    for error in Draft202012Validator(SCHEMA).iter_errors(data):
        path = list(error.absolute_path)
        top = str(path[0]) if path else ""
        hint = HINTS.get(str(path[-1]) if path else "", HINTS.get(top, ""))
        if error.validator == "additionalProperties" and isinstance(error.schema["additionalProperties"], bool):
            known = error.schema["properties"]
            for key in error.instance:
                if key not in known:
                    expected = "known here: " + ", ".join(known)
                    yield _Problem(_line(root, [*path, key]), f"unknown key {key!r}", expected)
        else:
            name = ".".join(map(str, path))
            yield _Problem(_line(root, path), f"{name}: {_words(error)}" if name else _words(error), hint)


def _words(error: ValidationError) -> str:
    """Return a schema error in words; a value may be a secret by mistake, so environments do not show it."""
    shown = "the value" if error.absolute_path and error.absolute_path[0] == "environment" else repr(error.instance)
    if error.validator == "pattern":
        return f"{shown} does not fit {error.validator_value}"
    if error.validator == "type":
        return f"{shown} is not a {error.validator_value}"
    return error.message if shown != "the value" else f"the value breaks the rule {error.validator}"


def _read_contents(path: Path, root: yaml.Node, data: dict[str, Any]) -> tuple[dict[str, str], list[_Problem]]:
    """Return the texts of the lock file and the files, and what could not be read."""
    names: list[tuple[str, list[str | int]]] = []
    if "lock" in data["artifact"]:
        names.append((data["artifact"]["lock"], ["artifact", "lock"]))
    names += [(name, ["files", index]) for index, name in enumerate(data.get("files", []))]
    contents: dict[str, str] = {}
    problems = []
    for name, place in names:
        try:
            contents[name] = (path.parent / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            hint = HINTS[str(place[0]) if place[0] == "files" else "lock"]
            problems.append(_Problem(_line(root, place), f"{name} cannot be read: {error}", hint))
    return contents, problems


def _lock_problems(root: yaml.Node, artifact: dict[str, str], found: str, text: str) -> Iterator[_Problem]:
    """Yield a digest that does not fit, and a lock file without hashes."""
    if artifact.get("sha256", found) != found:
        message = f"{artifact['lock']} is not the file that artifact.sha256 names: found {found}"
        hint = "restore the lock file, or have the new one reviewed and write its digest here"
        yield _Problem(_line(root, ["artifact", "sha256"]), message, hint)
    if "--hash=sha256:" not in text:
        hint = "make it with `uv pip compile --generate-hashes`"
        yield _Problem(_line(root, ["artifact", "lock"]), f"{artifact['lock']} pins no hashes", hint)


def _line(root: yaml.Node, path: Sequence[str | int]) -> int:
    """Return the line (from 1) of the value or key at a path, of the nearest parent when it is not there."""
    node, line = root, root.start_mark.line + 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == str(step)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            pair = (node.value[step], node.value[step])
        else:
            pair = None
        if pair is None:
            break
        node, line = pair[1], pair[0].start_mark.line + 1
    return line
