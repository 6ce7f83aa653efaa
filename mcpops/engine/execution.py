"""How a step is done: one Protocol, for Ansible plays, direct actions and gates alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mcpops.model.outcome import AttemptReport, Result
from mcpops.model.run import Run
from mcpops.model.step import Step

PROBE, DONE = "probe", "done"  # what a role's tasks/probe.yml hands on by set_stats when it finds its work done


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """What an execution needs to know. `variables` are the run's parameters and the outputs of earlier steps.

    `cancel` is set when the step must end: the lease is lost, or a person pressed Ctrl-C. `deadline` is the file that
    says how long the lease counts.
    """

    run: Run
    seq: int
    step: Step
    number: int
    fence: int
    variables: Mapping[str, Any]
    snapshot: Path
    cancel: threading.Event
    deadline: Path
    on_result: Callable[[Result], None]


class Execution(Protocol):
    """One try of one step."""

    def prepare(self) -> None:
        """Do what may take long and changes nothing (open channels), before the intent is written."""

    def act(self) -> AttemptReport:
        """Do the step. Raises Fenced when a host refuses this run's fence."""

    def close(self) -> None:
        """Let go of what `prepare` opened; also after an error."""


Executor = Callable[[StepContext], Execution]


class GateWaits(Exception):
    """A gate has no answer yet; says what it waits for."""
