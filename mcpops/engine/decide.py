"""What comes next in a run: decided purely, from its record alone, so that a resume decides the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcpops.core.errors import ExitCode
from mcpops.model.outcome import Outcome
from mcpops.model.run import RunState, StepRecord, StepState
from mcpops.model.step import StepKind

_BAD = (StepState.FAILED, StepState.UNKNOWN)


@dataclass(frozen=True)
class End:
    """The run is over: how, and why in one sentence."""

    state: RunState
    exit_code: ExitCode
    reason: str = ""


def decide(steps: Sequence[StepRecord]) -> StepRecord | End:
    """Return the step to do now, or how the run ends."""
    if not steps:
        return End(RunState.FAILED, ExitCode.UNKNOWN, "the runbook has no steps")
    undos = [record for record in steps if record.step.kind is StepKind.UNDO]
    plays = [record for record in steps if record.step.kind is not StepKind.UNDO]
    failed = next((record for record in plays if record.state in _BAD), None)
    if failed is None:
        pending = next((record for record in plays if record.state is not StepState.DONE), None)
        return pending or End(RunState.DONE, ExitCode.OK)
    reason = f"step {failed.step.name}: {why(failed)}"
    broken = next((record for record in undos if record.state in _BAD), None)
    if broken is not None:
        return End(RunState.BROKEN, ExitCode.BROKEN, f"{reason}; {broken.step.name} failed too: {why(broken)}")
    pending = next((record for record in undos if record.state is not StepState.DONE), None)
    if pending is not None:
        return pending
    if undos:
        return End(RunState.ROLLED_BACK, ExitCode.ROLLED_BACK, reason)
    return End(RunState.FAILED, _exit_code(failed), reason)


def to_undo(steps: Sequence[StepRecord], failed: StepRecord) -> list[StepRecord]:
    """Return the steps that the failure of `failed` takes back, the last first.

    The failed step itself is among them, as it may have done half of its work. Nothing is taken back for a failed
    undo, nor once a step that commits is done.
    """
    if failed.step.kind is StepKind.UNDO or any(r.step.commits and r.state is StepState.DONE for r in steps):
        return []
    tried = [record for record in steps if record.seq <= failed.seq and record.step.undo]
    return [record for record in reversed(tried) if record.attempts or record.seq == failed.seq]


def why(record: StepRecord) -> str:
    """Return the reason of the last try of a step."""
    last = record.attempts[-1] if record.attempts else None
    return last.reason if last and last.reason else record.state.value


def _exit_code(failed: StepRecord) -> ExitCode:
    last = failed.attempts[-1].outcome if failed.attempts else None
    unproved = failed.state is StepState.UNKNOWN or last is Outcome.UNREACHABLE
    return ExitCode.UNKNOWN if unproved else ExitCode.FAILED
