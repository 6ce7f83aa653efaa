"""The direct actions of a deploy as executions of the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcpops.core.errors import UsageError
from mcpops.deploy.direct import ACTIONS, DirectAction, DirectContext
from mcpops.engine.execution import Executor, StepContext
from mcpops.model.outcome import AttemptReport
from mcpops.model.step import StepKind
from mcpops.model.target import Target

DEFAULT_BAKE_S = 60  # the role's default too; a test holds them equal


class DirectExecution:
    """One try of a direct step, or of its undo."""

    def __init__(self, context: StepContext, action: DirectAction) -> None:
        self._context, self._action = context, action

    def prepare(self) -> None:
        """Open the channels, before the intent is written."""
        self._action.prepare()

    def act(self) -> AttemptReport:
        """Do it or take it back; tell each result."""
        undo = self._context.step.kind is StepKind.UNDO
        report = self._action.undo() if undo else self._action.act()
        for result in report.results:
            self._context.on_result(result)
        return report

    def close(self) -> None:
        """Close the channels."""
        self._action.close()


def direct_executors(targets: Callable[[], Sequence[Target]]) -> dict[str, Executor]:
    """Return the table of direct steps for one environment; `targets` are its fronts."""

    def executor(name: str) -> Executor:
        return lambda context: DirectExecution(context, ACTIONS[name](_context(context, tuple(targets()))))

    return {name: executor(name) for name in ACTIONS}


def _context(context: StepContext, targets: tuple[Target, ...]) -> DirectContext:
    variables = context.variables
    slot, release = variables.get("slot"), variables.get("release") or {}
    if slot not in ("blue", "green"):
        raise UsageError(
            f"step {context.step.name} does not know its slot", hint="an earlier step hands on `slot` by set_stats"
        )
    return DirectContext(
        targets=targets,
        slot=str(slot),
        run=context.run.id,
        fence=context.fence,
        release=release.get("name"),
        guard_s=float(variables.get("blue_green_bake_s", DEFAULT_BAKE_S)),
        cancel=context.cancel,
    )
