"""Run, attempt, lease: what the journal holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from mcpops.model.outcome import Outcome, Result
from mcpops.model.step import Step


class RunState(StrEnum):
    """Where a run stands; the last five are its end."""

    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    BROKEN = "broken"
    ABANDONED = "abandoned"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen in this run."""
        return self not in (RunState.RUNNING, RunState.WAITING, RunState.BROKEN)


class StepState(StrEnum):
    """Where a step of a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person or a schedule asked for, before anything starts."""

    environment: str
    runbook: str
    parameters: Mapping[str, Any]
    requested_by: str
    plan_digest: str
    snapshot: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to act on an environment. `fence` outranks every lower one, here and on the hosts."""

    environment: str
    fence: int
    run_id: str
    holder: str
    doing: str
    since: datetime
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try of a step; `outcome` is None between the intent and the outcome, and after a crash."""

    number: int
    fence: int
    intent_at: datetime
    outcome: Outcome | None = None
    reason: str = ""
    duration_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """A step of a run, and what became of it."""

    seq: int
    step: Step
    state: StepState
    attempts: tuple[Attempt, ...] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)
    results: tuple[Result, ...] = ()
    undo_of: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution of a runbook snapshot in an environment."""

    id: str
    environment: str
    runbook: str
    state: RunState
    plan_digest: str
    snapshot: str
    parameters: Mapping[str, Any]
    requested_by: str
    started_at: datetime
    ended_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    steps: tuple[StepRecord, ...] = ()
