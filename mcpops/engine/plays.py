"""Steps that are done by Ansible: the play itself, its undo, its probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mcpops.ansible.call import PlayCall
from mcpops.ansible.play import run_play
from mcpops.core.errors import Fenced
from mcpops.engine.execution import Executor, StepContext
from mcpops.model.outcome import AttemptReport, Outcome
from mcpops.model.step import Step

FENCED = "fenced"  # how the module `hostside` begins its message when a host refuses the fence


class PlayExecution:
    """One try of one play as one ansible-runner process."""

    def __init__(self, context: StepContext, body: str) -> None:
        self._context = context
        self._body = body

    def prepare(self) -> None:
        """Need nothing: Ansible opens its own connections."""

    def act(self) -> AttemptReport:
        """Run the play. Raises Fenced when a host says that a newer run is in charge."""
        context, step = self._context, self._context.step
        call = PlayCall(
            name=step.name,
            play=self._body,
            tree=context.snapshot,
            inventory=context.snapshot / "inventory",
            run_id=context.run.id,
            attempt=context.number,
            fence=context.fence,
            runbook=f"{context.run.runbook}.yml",
            variables={**context.variables, "mcpops_run": context.run.id, "mcpops_fence": context.fence},
            timeout_s=step.timeout_s,
            minimum_hosts=step.minimum_hosts,
            minimum_checks=step.minimum_checks,
        )
        report = run_play(call, context.on_result, context.cancel)
        for result in report.results:
            if result.outcome is Outcome.FAILED and result.message.startswith(FENCED):
                raise Fenced(
                    f"{result.host} refused run {context.run.id}",
                    detail=result.message,
                    hint="a rollback or a newer run took over; `mcpops status` says what is in force",
                )
        return report

    def close(self) -> None:
        """Hold nothing."""


def play_executor(body_of: Callable[[Step], str]) -> Executor:
    """Return an executor that runs what `body_of` makes of a step: the play, or its probe."""
    return lambda context: PlayExecution(context, body_of(context.step))


def probe_executor(probe_play: Callable[[Step], str]) -> Executor:
    """Return an executor that asks the world whether a step happened; it may find nothing to check."""

    def execution(context: StepContext) -> PlayExecution:
        lenient = replace(context.step, name=f"probe {context.step.name}", timeout_s=min(context.step.timeout_s, 120.0))
        lenient = replace(lenient, minimum_hosts=1, minimum_checks=1)  # those say how much work the step must show
        return PlayExecution(replace(context, step=lenient), probe_play(context.step))

    return execution
