"""The direct actions of a deploy as executions of the engine."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mcpops.core.clock import Clock, SystemClock
from mcpops.core.errors import UsageError
from mcpops.deploy.direct import ACTIONS, DirectAction, DirectContext
from mcpops.engine.execution import Executor, StepContext
from mcpops.model.outcome import AttemptReport, Outcome
from mcpops.model.step import StepKind
from mcpops.model.target import Target

DEFAULT_BAKE_S = 60  # the role's default too; a test holds them equal
OPEN_S = 10.0  # the most that opening the channels may take; a host that is up answers in 0.3 s
BAKE_S = "blue_green_bake_s"
# The variables of an inventory that direct steps read, where the run's parameters do not say them.
SETTINGS = (BAKE_S,)

Hosts = Sequence[Mapping[str, Any]]  # the variables of each front, as the run's inventory has them


class TimeLimit(threading.Event):
    """An event that is set when another one is, and also once the time of a step is over."""

    def __init__(self, cancel: threading.Event, limit_s: float, clock: Clock) -> None:
        super().__init__()
        self._cancel, self._clock = cancel, clock
        self._until_s = clock.monotonic_s() + limit_s

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self._clock.monotonic_s() >= self._until_s

    def is_set(self) -> bool:
        """Whether the step must end."""
        return self._cancel.is_set() or self.passed

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the step must end, or for `timeout` seconds; return whether it must."""
        left_s = max(0.0, self._until_s - self._clock.monotonic_s())
        return self._cancel.wait(left_s if timeout is None else min(timeout, left_s)) or self.is_set()


class DirectExecution:
    """One try of a direct step, or of its undo.

    The time of a step bounds what waits: the opening of the channels, and the bake. A switch that began goes through.
    """

    def __init__(self, context: StepContext, action: DirectAction, limit: TimeLimit) -> None:
        self._context, self._action, self._limit = context, action, limit

    def prepare(self) -> None:
        """Open the channels, before the intent is written."""
        self._action.prepare()

    def act(self) -> AttemptReport:
        """Do it or take it back; tell each result."""
        undo = self._context.step.kind is StepKind.UNDO
        report = self._action.undo() if undo else self._action.act()
        for result in report.results:
            self._context.on_result(result)
        if report.outcome is Outcome.UNKNOWN and self._limit.passed:
            said = f"the time limit of the step ({self._context.step.timeout_s:g} s) passed"
            return replace(report, reason=f"{said}; {report.reason}")
        return report

    def close(self) -> None:
        """Close the channels."""
        self._action.close()


def direct_executors(targets: Callable[[], Sequence[Target]], hosts: Hosts = ()) -> dict[str, Executor]:
    """Return the table of direct steps for one environment: its fronts, and what its inventory says of each."""

    def executor(name: str) -> Executor:
        def execution(context: StepContext) -> DirectExecution:
            limit = TimeLimit(context.cancel, context.step.timeout_s, SystemClock())
            return DirectExecution(context, ACTIONS[name](_context(context, tuple(targets()), hosts, limit)), limit)

        return execution

    return {name: executor(name) for name in ACTIONS}


def _context(context: StepContext, targets: tuple[Target, ...], hosts: Hosts, limit: TimeLimit) -> DirectContext:
    """Return what the action needs to know. Raises UsageError for what no earlier step handed on."""
    variables = context.variables
    slot, release = variables.get("slot"), variables.get("release") or {}
    if slot not in ("blue", "green"):
        raise UsageError(
            f"step {context.step.name} does not know its slot", hint="an earlier step hands on `slot` by set_stats"
        )
    if not isinstance(release, Mapping):
        raise UsageError(
            f"step {context.step.name}: release is {release!r}, expected a manifest with a name",
            hint="`mcpops deploy RELEASE` gives it; leave it out to switch to whatever is staged",
        )
    return DirectContext(
        targets=targets,
        slot=str(slot),
        run=context.run.id,
        fence=context.fence,
        release=release.get("name"),
        guard_s=bake_s(variables, hosts),
        timeout_s=min(OPEN_S, context.step.timeout_s),
        cancel=limit,
    )


def bake_s(variables: Mapping[str, Any], hosts: Hosts) -> float:
    """Return how long the guards watch: what the run says, else the inventory, else the default. Raises UsageError.

    Where fronts ask for different times, the longest counts: they switch together, and are watched together.
    """
    if BAKE_S in variables:
        return _seconds(variables[BAKE_S], "the run's parameters")
    said = [_seconds(host.get(BAKE_S, DEFAULT_BAKE_S), "the inventory") for host in hosts]
    return max(said, default=float(DEFAULT_BAKE_S))


def _seconds(value: object, where: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise UsageError(
            f"{BAKE_S} is {value!r} in {where}; expected seconds", hint=f"a number from 0 on: {BAKE_S}: 60"
        )
    return number
