"""Steps that are done by Ansible: the play itself, its undo, its probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mcpops.ansible.call import PlayCall
from mcpops.ansible.play import run_play
from mcpops.ansible.vault import Vault
from mcpops.core.errors import Fenced
from mcpops.engine.execution import DONE, PROBE, Executor, StepContext
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.step import Step

FENCED = "fenced"  # how the module `hostside` begins its message when a host refuses the fence


@dataclass(frozen=True)
class Place:
    """What holds for every play of a run: its vault, whether all hosts of its inventory are this machine, its scope.

    Hosts keep one highest fence for each `scope`, and this machine for `here`; the files `beside` are the fences of
    services there, which a rollback raises: see `mcpops.ansible.fence`.
    """

    vault: Vault
    local: bool
    scope: str
    here: str
    beside: tuple[str, ...] = ()


class PlayExecution:
    """One try of one play as one ansible-runner process."""

    def __init__(self, context: StepContext, body: str, place: Place) -> None:
        self._context = context
        self._body = body
        self._place = place

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
            secrets=self._place.vault.secrets,
            environment=self._place.vault.settings,
            local=self._place.local,
            timeout_s=step.timeout_s,
            minimum_hosts=step.minimum_hosts,
            minimum_checks=step.minimum_checks,
            scope=self._place.scope,
            here=self._place.here,
            beside=self._place.beside,
            deadline=context.deadline,
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


def play_executor(body_of: Callable[[Step], str], place: Place) -> Executor:
    """Return an executor that runs what `body_of` makes of a step."""
    return lambda context: PlayExecution(context, body_of(context.step), place)


# Any command will do: it is the connection that brings the fence. `raw` needs nothing on the host.
BARRIER = """\
- name: barrier
  hosts: all
  gather_facts: false
  tasks:
    - name: take the right to act
      ansible.builtin.raw: "true"
      changed_when: false
"""


def barrier_executor(place: Place) -> Executor:
    """Return an executor that brings the run's fence to every host: nothing of an earlier holder acts after it."""
    return lambda context: PlayExecution(context, BARRIER, place)


class ProbeExecution:
    """Asks the world whether a step happened, one use of a role after the other; all must say so."""

    def __init__(self, plays: Sequence[PlayExecution]) -> None:
        self._plays = plays

    def prepare(self) -> None:
        """Need nothing, as each of the plays."""

    def act(self) -> AttemptReport:
        """Run the plays until one does not say `done`; return the last report, with the results of all."""
        report = AttemptReport(outcome=Outcome.UNKNOWN, reason="the step has no role to ask")
        results: list[Result] = []
        for play in self._plays:
            report = play.act()
            results += report.results
            if not report.outcome.good or report.outputs.get(PROBE) != DONE:
                break
        return replace(report, results=tuple(results))

    def close(self) -> None:
        """Hold nothing."""


def probe_executor(probe_plays: Callable[[Step], Sequence[str]], place: Place) -> Executor:
    """Return an executor that asks the world whether a step happened."""

    def execution(context: StepContext) -> ProbeExecution:
        step = replace(context.step, name=f"probe {context.step.name}", timeout_s=min(context.step.timeout_s, 120.0))
        step = replace(step, minimum_hosts=1, minimum_checks=1)  # those say how much work the step must show
        asked = replace(context, step=step)
        return ProbeExecution([PlayExecution(asked, body, place) for body in probe_plays(context.step)])

    return execution
