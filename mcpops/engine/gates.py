"""Gates: freeze windows, the age of the last verified backup, approval. An environment says what it asks for.

A gate that the environment does not mention is unknown and blocks: whoever wants none says so in the inventory. A run
that waits is judged by the inventory of its snapshot and by the one of today: an environment may become stricter
meanwhile, never laxer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mcpops.core.clock import Clock, from_text, to_text
from mcpops.core.errors import McpopsError, UsageError
from mcpops.engine.approvers import owners, require_another
from mcpops.engine.execution import Executor, GateWaits, StepContext
from mcpops.journal.queries import Journal
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import Decision


@dataclass(frozen=True)
class GateInputs:
    """What gates decide from: settings of the environment (inventory variables), the journal, the clock.

    `approvers` says who may approve; `planned` are the inputs that the run was planned with, which say it only where
    there was such a file then.
    """

    settings: Mapping[str, Any]
    journal: Journal
    clock: Clock
    approvers: Path | None = None
    planned: bool = False


# The variables of an inventory by which an environment says what it asks for.
SETTINGS = ("deploy_approval", "deploy_approval_max_age_s", "deploy_freeze_windows", "deploy_backup_max_age_s")
MAX_AGE_S = 86_400.0  # of an approval, where the inventory does not say `deploy_approval_max_age_s`

Judge = Callable[[StepContext, GateInputs], AttemptReport]


def freeze(_context: StepContext, inputs: GateInputs) -> AttemptReport:
    """Say no inside a window of `deploy_freeze_windows` ([{from, until, why}], RFC 3339)."""
    if "deploy_freeze_windows" not in inputs.settings:
        return _unsaid("freeze", "deploy_freeze_windows", "[] means: no freeze")
    now = inputs.clock.now()
    try:
        windows = list(inputs.settings["deploy_freeze_windows"] or [])
        frozen = [window for window in windows if _time(window["from"]) <= now < _time(window["until"])]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        said = f"deploy_freeze_windows cannot be read: {error!r}; expected a list of windows with from and until"
        return _report("freeze", Outcome.UNKNOWN, said)
    if frozen:
        why = frozen[0].get("why", "no reason given")
        return _report("freeze", Outcome.FAILED, f"frozen until {frozen[0]['until']}: {why}")
    return _report("freeze", Outcome.OK, f"none of {len(windows)} freeze windows is open")


def backup_age(_context: StepContext, inputs: GateInputs) -> AttemptReport:
    """Say no when the last verified backup is older than `deploy_backup_max_age_s`; null asks for none.

    No source of verified backups exists in this version: an environment that asks for one gets unknown.
    """
    if "deploy_backup_max_age_s" not in inputs.settings:
        return _unsaid("backup_age", "deploy_backup_max_age_s", "null means: deploys ask for no backup")
    wanted_s = inputs.settings["deploy_backup_max_age_s"]
    if wanted_s is None:
        return _report("backup_age", Outcome.OK, "this environment asks for no backup before a deploy")
    said = f"no verified backup is on record; expected one younger than {wanted_s} s"
    return _report("backup_age", Outcome.UNKNOWN, said)


def approval(context: StepContext, inputs: GateInputs) -> AttemptReport:
    """Wait for another person's signed decision on the digest of this very plan; then ask `freeze` once more.

    Raises GateWaits, also when an approval ended.
    """
    wanted = inputs.settings.get("deploy_approval")
    if wanted == "not_required":
        return _unless_frozen(context, inputs, "this environment asks for no approval")
    if wanted != "required":
        return _unsaid("approval", "deploy_approval", "required or not_required")
    decision = inputs.journal.decision(context.run.id, context.seq)
    if decision is None or decision.plan_digest != context.run.plan_digest:
        raise GateWaits(f"approval of plan {context.run.plan_digest[:19]}… by somebody else than {_requester(context)}")
    if decision.decision != "approve":
        return _report("approval", Outcome.FAILED, f"rejected by {decision.by}")
    if inputs.approvers is None and not inputs.planned:
        return _report("approval", Outcome.UNKNOWN, "there is no file `approvers` any more that says who may approve")
    try:
        until = _until(decision, inputs.settings)
        if inputs.approvers:
            require_another(owners(decision.message(), decision.signature or "", inputs.approvers), _requester(context))
    except McpopsError as error:
        return _report("approval", Outcome.FAILED, f"{error.message}; {error.detail or error.hint}")
    if inputs.clock.now() >= until:
        raise GateWaits(f"a new approval: the one of {decision.by} counted until {to_text(until)}")
    return _unless_frozen(context, inputs, f"approved by {decision.by}")


def _until(decision: Decision, settings: Mapping[str, Any]) -> datetime:
    """Return how long an approval counts: as it says itself, but no longer than the environment allows."""
    said = settings.get("deploy_approval_max_age_s", MAX_AGE_S)
    try:
        longest = decision.at + timedelta(seconds=float(said))
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"deploy_approval_max_age_s is {said!r}", hint="expected a number of seconds") from error
    return min(decision.expires_at or longest, longest)


GATES: dict[str, Judge] = {"freeze": freeze, "backup_age": backup_age, "approval": approval}


class GateExecution:
    """A gate as a step: decided in `prepare`, so that a gate that waits leaves no intent behind."""

    def __init__(self, context: StepContext, inputs: Sequence[GateInputs], judge: Judge) -> None:
        self._context, self._inputs, self._judge = context, inputs, judge
        self._report = AttemptReport(outcome=Outcome.UNKNOWN, reason="not judged")

    def prepare(self) -> None:
        """Judge by each of the inputs; the first that says no decides. Raises GateWaits."""
        reports = [self._judge(self._context, inputs) for inputs in self._inputs]
        self._report = next((report for report in reports if not report.outcome.good), reports[-1])

    def act(self) -> AttemptReport:
        """Return the verdict."""
        return self._report

    def close(self) -> None:
        """Hold nothing."""


def gate_executors(inputs: Sequence[GateInputs]) -> dict[str, Executor]:
    """Return the table of gates for one environment; `inputs` holds at least one."""

    def executor(judge: Judge) -> Executor:
        return lambda context: GateExecution(context, inputs, judge)

    return {name: executor(judge) for name, judge in GATES.items()}


def _unless_frozen(context: StepContext, inputs: GateInputs, said: str) -> AttemptReport:
    """Say yes, unless a freeze window is open: the switch follows at once, perhaps days after `freeze` was asked."""
    frozen = freeze(context, inputs)
    return _report("approval", Outcome.OK, said) if frozen.outcome.good else frozen


def _requester(context: StepContext) -> str:
    return context.run.requested_by


def _time(value: str | datetime) -> datetime:
    return from_text(value if isinstance(value, str) else to_text(value))


def _unsaid(gate: str, name: str, meaning: str) -> AttemptReport:
    return _report(gate, Outcome.UNKNOWN, f"the inventory does not say {name}; {meaning}")


def _report(gate: str, outcome: Outcome, said: str) -> AttemptReport:
    """Return the verdict; the result's task names the gate that gave it, which another gate may have asked."""
    result = Result(host="control", task=gate, outcome=outcome, message=said)
    return AttemptReport(outcome=outcome, reason="" if outcome.good else said, results=(result,))
