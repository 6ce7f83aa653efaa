"""What comes next in a run: decided purely, from its record alone, so that a resume decides the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcpops.core.errors import ExitCode
from mcpops.model.outcome import Outcome
from mcpops.model.run import RunState, StepRecord, StepState
from mcpops.model.step import StepKind

_BAD = (StepState.FAILED, StepState.UNKNOWN)
SAFETY_RULES = ("freeze", "backup_age")  # gates whose no is a refusal (9), also when another gate asks them

ASKED_AGAIN = ("freeze", "approval")  # gates whose yes ends: a window opens, an approval expires


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
    undo, nor once a step that commits is done. A gate that is asked again may fail after later steps.
    """
    if failed.step.kind is StepKind.UNDO or committed(steps):
        return []
    return [record for record in reversed(steps) if record.step.undo and (record.attempts or record.seq == failed.seq)]


def committed(steps: Sequence[StepRecord]) -> bool:
    """Whether the run is past the point of no return."""
    return any(record.step.commits and record.state is StepState.DONE for record in steps)


def to_do_again(steps: Sequence[StepRecord]) -> list[tuple[StepRecord, str]]:
    """Return the steps that a resume does again although they have an outcome, and why.

    An undo that failed is tried again: somebody may have mended the host. The gates of ASKED_AGAIN are asked again
    before more is done: their answer was of another hour. Not where `approval` is next, which asks `freeze` itself, nor
    once the cutover is done: going back would be one more switch.
    """
    undos = [record for record in steps if record.step.kind is StepKind.UNDO and record.state in _BAD]
    if undos:
        return [(record, "a resume tries the undo again") for record in undos]
    following = decide(steps)
    if isinstance(following, End) or following.step.kind is StepKind.UNDO or following.step.gate == "approval":
        return []
    if committed(steps) or any(record.step.direct == "cutover" and record.state is StepState.DONE for record in steps):
        return []
    asked = [record for record in steps if record.step.gate in ASKED_AGAIN and record.state is StepState.DONE]
    return [(record, "a resume asks it again") for record in asked]


def why(record: StepRecord) -> str:
    """Return the reason of the last try of a step."""
    last = record.attempts[-1] if record.attempts else None
    return last.reason if last and last.reason else record.state.value


def _exit_code(failed: StepRecord) -> ExitCode:
    said_no = {result.task for result in failed.results if result.outcome is Outcome.FAILED}
    if failed.step.kind is StepKind.GATE and said_no & set(SAFETY_RULES):
        return ExitCode.REFUSED
    last = failed.attempts[-1].outcome if failed.attempts else None
    unproved = failed.state is StepState.UNKNOWN or last is Outcome.UNREACHABLE
    return ExitCode.UNKNOWN if unproved else ExitCode.FAILED
