"""Read a playbook as a runbook: each play is a step, with its own text and what its `vars: step:` says."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from mcpops.core.errors import UsageError
from mcpops.model.step import OnInterrupt, Runbook, Step, StepKind
from mcpops.runbook.nodes import items, line, plain
from mcpops.runbook.schema import STEP_SCHEMA
from mcpops.runbook.uses import RoleUse, only_whole_roles, role_uses


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a runbook, and where."""

    where: str
    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.hint})"


def load_runbook(path: Path, roles_path: Sequence[Path] | None = None) -> Runbook:
    """Read the playbook at `path`; raise UsageError with every problem in it, each with its file and line.

    `roles_path` is where roles are looked for, first match first; without it `roles` beside the playbook and
    beside its directory. Nothing of Ansible is started, and no variable is resolved.
    """
    roots = tuple(roles_path) if roles_path is not None else (path.parent / "roles", path.parent.parent / "roles")
    text = _read(path)
    plays = _compose(path, text)
    reader = _Reader(path, text, roots)
    steps = [reader.step(play, first, end) for play, (first, end) in zip(plays, _cuts(text, len(plays)), strict=True)]
    reader.check_names(steps)
    if reader.problems:
        raise _usage(path, reader.problems)
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return Runbook(name=path.stem, path=str(path), steps=tuple(step for step in steps if step), digest=digest)


def _usage(path: Path, problems: list[Problem]) -> UsageError:
    first = problems[0]
    many = f"{len(problems)} problems" if len(problems) > 1 else first.what
    return UsageError(
        f"runbook {path.name} is not valid: {many}",
        detail="\n".join(map(str, problems)),
        hint=first.hint,
        where=first.where,
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"runbook {path} cannot be read", detail=str(error.strerror), hint="mcpops run NAME, of playbooks/NAME.yml"
        ) from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        number = raw[: error.start].count(b"\n") + 1
        problem = Problem(f"{path}:{number}", f"byte 0x{raw[error.start]:02x} is not UTF-8", "save the file as UTF-8")
        raise _usage(path, [problem]) from error
    return text.removeprefix("\ufeff")


def _compose(path: Path, text: str) -> list[yaml.Node]:
    """Return the plays' nodes; raise UsageError for what is not a list of plays."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        hint = "check the indentation; quote values with `: ` or a leading `{`"
        if "'\\t'" in str(error.problem):
            hint = "indent with spaces: YAML allows no tabs"
        where = f"{path}:{mark.line + 1 if mark else 1}"
        raise _usage(path, [Problem(where, f"not YAML: {error.problem or error}", hint)]) from error
    except yaml.YAMLError as error:  # a character that YAML forbids, without a mark
        raise _usage(path, [Problem(f"{path}:1", f"not YAML: {_one_line(error)}", "remove the character")]) from error
    if isinstance(root, yaml.SequenceNode) and root.value and not root.flow_style:
        return list(root.value)
    found = "nothing" if root is None or not root.value else "something else"
    where = f"{path}:{line(root) if root else 1}"
    hint = "a runbook is a list of plays: - name: …"
    raise _usage(path, [Problem(where, f"no plays: expected a block list of plays, found {found}", hint)])


def _cuts(text: str, count: int) -> list[tuple[int, int]]:
    """Return the first and the last+1 line (from 0) of each play: from its dash to the next one's."""
    starts: list[int] = []
    column: int | None = None
    for token in yaml.scan(text, yaml.SafeLoader):
        if isinstance(token, yaml.BlockEntryToken):
            # The first dash of the file opens the list of plays; deeper lists are indented further.
            column = token.start_mark.column if column is None else column
            if token.start_mark.column == column:
                starts.append(token.start_mark.line)
    starts = starts[:count]
    return list(zip(starts, [*starts[1:], text.count("\n") + 1], strict=True))


class _Reader:
    """Makes steps of nodes and collects what is wrong, with its place."""

    def __init__(self, path: Path, text: str, roots: Sequence[Path]) -> None:
        self._path = path
        self._lines = text.split("\n")
        self._roots = roots
        self.problems: list[Problem] = []

    def step(self, play: yaml.Node, first: int, end: int) -> Step | None:
        """Return the step of one play, or None when too little of it can be read."""
        entries = items(play)
        if "import_playbook" in entries or "ansible.builtin.import_playbook" in entries:
            self._add(play, "import_playbook is not a play", "write the plays into this file: each one is a step")
            return None
        if not isinstance(play, yaml.MappingNode):
            self._add(play, "expected a play, found a value", "a play has name: and hosts:")
            return None
        self._check_duplicates(play)
        name, hosts = self._word(play, "name"), self._word(play, "hosts")
        extra = self._extra(entries.get("vars"))
        body = self._body(play, first, end)
        self._check_roles(play, extra)
        if not name or not hosts:
            return None
        return Step(
            name=name,
            kind=StepKind.GATE if "gate" in extra else StepKind.PLAY,
            hosts=hosts,
            body=body,
            line=line(play),
            roles=tuple(dict.fromkeys(use.role for use in role_uses(play) if use.role)),
            on_interrupt=self._on_interrupt(play, extra),
            **{key: value for key, value in extra.items() if key != "on_interrupt"},
        )

    def check_names(self, steps: Sequence[Step | None]) -> None:
        """Add a problem for two steps of one name: a step is addressed by it."""
        seen: dict[str, int] = {}
        for step in filter(None, steps):
            if step.name in seen:
                what = f"two steps are named {step.name!r}, the first in line {seen[step.name]}"
                self._add_at(step.line, what, "give each play its own name")
            seen.setdefault(step.name, step.line)

    def _word(self, play: yaml.Node, key: str) -> str:
        node = items(play).get(key)
        value = plain(node) if node is not None else None
        if isinstance(value, list) and key == "hosts" and value:
            return ":".join(map(str, value))
        if isinstance(value, str) and value.strip():
            return value.strip()
        found = "nothing" if value is None else repr(value)
        self._add(node or play, f"a play without {key}: expected text, found {found}", f"add {key}: … to the play")
        return ""

    def _extra(self, variables: yaml.Node | None) -> dict[str, Any]:
        """Return what `vars: step:` says, as far as it is valid."""
        node = items(variables).get("step")
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self._add(node, f"step: expected keys, found {plain(node)!r}", "step: {timeout_s: 60}")
            return {}
        self._check_duplicates(node)
        extra: dict[str, Any] = plain(node)
        places = items(node)
        allowed = STEP_SCHEMA["properties"]
        bad: set[str] = set()
        for key in extra.keys() - allowed.keys():
            self._add(places[key], f"step: unknown key {key!r}", f"known are {', '.join(sorted(allowed))}")
            bad.add(key)
        for error in Draft202012Validator(STEP_SCHEMA).iter_errors(extra):
            key = str(error.path[0]) if error.path else ""
            if key and key not in bad:
                example = allowed[key]["examples"][0]
                written = str(example).lower() if isinstance(example, bool) else example
                self._add(places[key], f"step: {key}: {error.message}", f"for example {key}: {written}")
                bad.add(key)
        if {"gate", "direct"} <= extra.keys():
            self._add(node, "step: both gate and direct", "a gate does no work: make it a play of its own")
        return {key: value for key, value in extra.items() if key not in bad}

    def _check_roles(self, play: yaml.Node, extra: dict[str, Any]) -> None:
        uses = role_uses(play)
        if extra.get("undo") is True and not uses:
            self._add(play, "step: undo: true, and the play lists no role", "move the work into a role with undo.yml")
        asked = {"undo": extra.get("undo") is True, "probe": extra.get("on_interrupt") == "probe"}
        wanted = [what for what, said in asked.items() if said]
        for use in uses:
            for obstacle in use.obstacles if wanted else ():
                self._add(obstacle.node, f"step: {' and '.join(wanted)}: {obstacle.what}", obstacle.hint)
            if use.role and "{{" not in use.role:
                self._check_role(use, wanted)

    def _check_role(self, use: RoleUse, wanted: Sequence[str]) -> None:
        home = self._home(use.role)
        if home is None and "." not in use.role:
            self._add(use.node, f"role {use.role!r} is not there", f"looked in {', '.join(map(str, self._roots))}")
            return
        for what in wanted:
            if not self._has(use.role, what):
                problem = f"role {use.role!r} has no tasks/{what}.yml"
                self._add(use.node, problem, f"write {home or use.role}/tasks/{what}.yml, or change step:")

    def _on_interrupt(self, play: yaml.Node, extra: dict[str, Any]) -> OnInterrupt:
        if "on_interrupt" in extra:
            return OnInterrupt(extra["on_interrupt"])
        uses = role_uses(play)
        probed = all(self._has(use.role, "probe") and not use.obstacles for use in uses)
        return OnInterrupt.PROBE if uses and probed and only_whole_roles(play) else OnInterrupt.ASK

    def _home(self, role: str) -> Path | None:
        return next((root / role for root in self._roots if (root / role).is_dir()), None)

    def _has(self, role: str, tasks: str) -> bool:
        home = self._home(role)
        return home is not None and any((home / "tasks" / f"{tasks}.{end}").is_file() for end in ("yml", "yaml"))

    def _body(self, play: yaml.Node, first: int, end: int) -> str:
        """Return the play alone, at its old lines: the errors of Ansible then name the right ones."""
        body = "\n" * first + "\n".join(self._lines[first:end]).rstrip() + "\n"
        try:
            yaml.compose(body, yaml.SafeLoader)
        except yaml.YAMLError as error:
            self._add(play, f"the play cannot stand alone: {_one_line(error)}", "no anchors (&, *) across plays")
        return body

    def _check_duplicates(self, node: yaml.MappingNode) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                self._add(key, f"{key.value!r} stands here twice", "keep one: YAML would take the last")
            seen.add(str(key.value))

    def _add(self, node: yaml.Node, what: str, hint: str) -> None:
        self._add_at(line(node), what, hint)

    def _add_at(self, number: int, what: str, hint: str) -> None:
        self.problems.append(Problem(f"{self._path}:{number}", what, hint))
