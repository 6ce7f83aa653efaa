"""Run, attempt, lease: what the journal holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from mcpops.core.canonical import canonical
from mcpops.core.clock import to_text
from mcpops.model.outcome import Outcome, Result
from mcpops.model.step import Step


class RunState(StrEnum):
    """Where a run stands; the last four are its end."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    BROKEN = "broken"
    DONE = "done"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    ABANDONED = "abandoned"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen in this run."""
        return self not in (RunState.QUEUED, RunState.RUNNING, RunState.WAITING, RunState.BROKEN)


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
    """What a person or a schedule asked for, before anything starts. `schedule` is the name of that schedule."""

    environment: str
    runbook: str
    parameters: Mapping[str, Any]
    requested_by: str
    plan_digest: str
    snapshot: str
    steps: tuple[Step, ...]
    schedule: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a person decided on the plan of a run that waits; `signature` is over `message()`, by the key of `by`."""

    run_id: str
    seq: int
    decision: str  # approve or reject
    plan_digest: str
    at: datetime
    expires_at: datetime | None = None
    by: str = ""
    signature: str | None = None

    def message(self) -> bytes:
        """Return the bytes that are signed: not who, as that is what the key says."""
        until = to_text(self.expires_at) if self.expires_at else None
        said = {"run": self.run_id, "seq": self.seq, "decision": self.decision, "plan_digest": self.plan_digest}
        return canonical({"mcpops": "decision", **said, "at": to_text(self.at), "expires_at": until})


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to act on an environment. `fence` outranks every lower one, here and on the hosts.

    `dirty`: an earlier holder did not give the lease back, so it may still act until every host knows this fence.
    """

    environment: str
    fence: int
    run_id: str
    holder: str
    doing: str
    since: datetime
    until: datetime
    dirty: bool = False


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try of a step; `outcome` is None between the intent and the outcome, and after a crash."""

    number: int
    fence: int
    intent_at: datetime
    outcome: Outcome | None = None
    reason: str = ""
    duration_ms: int = 0
    ways: Mapping[str, Any] = field(default_factory=dict)


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
    """One execution of a runbook snapshot in an environment. `queued`: workers may drive it, whoever began it."""

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
    queued: bool = False
    schedule: str | None = None
    steps: tuple[StepRecord, ...] = ()
