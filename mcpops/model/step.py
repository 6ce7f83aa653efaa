"""Step: one play of a runbook, as mcpops understands it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class StepKind(StrEnum):
    """What a step is: work, a question, or the taking back of work."""

    PLAY = "play"
    GATE = "gate"
    UNDO = "undo"


class OnInterrupt(StrEnum):
    """What to do with a step that a crash interrupted."""

    PROBE = "probe"  # ask the world by the role's tasks/probe.yml, then skip or run again
    RERUN = "rerun"  # idempotent by construction: run again
    ASK = "ask"  # a person decides


@dataclass(frozen=True, kw_only=True)
class Step:
    """One play, and what its `vars: step:` says beyond Ansible.

    `body` is the YAML text of the play alone; `line` its first line in the runbook. `roles` are the names of the
    roles that the play lists, in order: `undo` and `probe` are their `tasks/undo.yml` and `tasks/probe.yml`.
    `direct` names the action that mcpops does over open channels instead of through Ansible. A step that `commits`
    is the point of no return: once it is good, a later failure takes nothing back. Without `minimum_hosts` no host may
    leave a play, or be left out of all its tasks, without having done anything.
    """

    name: str
    kind: StepKind
    hosts: str
    body: str
    line: int
    roles: tuple[str, ...] = ()
    gate: str | None = None
    direct: str | None = None
    undo: bool = False
    commits: bool = False
    on_interrupt: OnInterrupt = OnInterrupt.PROBE
    timeout_s: float = 600.0
    minimum_hosts: int | None = None
    minimum_checks: int = 1


@dataclass(frozen=True, kw_only=True)
class Runbook:
    """A playbook, cut into steps; `digest` covers its text."""

    name: str
    path: str
    steps: tuple[Step, ...]
    digest: str
    variables: tuple[str, ...] = field(default=())
