"""A worker's loop: what may run now is driven, one run at a time; what cannot be is left alone for a while.

Several workers, on one machine or many, ask the same journal. That two pick the same run is no harm: one gets the
lease, and the other is told Busy and looks again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from mcpops.core.clock import Clock
from mcpops.core.errors import Busy, McpopsError
from mcpops.journal.queue import runnable
from mcpops.journal.store import Store

# A run that a worker could not begin (a file is missing here, a front does not answer) is tried again after this.
SET_ASIDE_S = 300.0


@dataclass
class Dispatcher:
    """Takes what the journal says may run. `drive` begins or resumes a run and returns when it ended or waits."""

    store: Store
    clock: Clock
    drive: Callable[[str], None]
    say: Callable[[str], None]
    _aside: dict[str, float] = field(default_factory=dict)

    def runnable(self) -> list[str]:
        """Return what this worker may drive now."""
        now_s = self.clock.monotonic_s()
        return runnable(self.store, self.clock, [one for one, until_s in self._aside.items() if until_s > now_s])

    def step(self) -> bool:
        """Drive one run, if one may run now; return whether there was one: then it is worth to look again."""
        return any(self.take(run_id) for run_id in self.runnable()[:1])

    def take(self, run_id: str) -> bool:
        """Drive a run that may run now; return whether this worker had it, or set it aside."""
        try:
            self.drive(run_id)
        except Busy:
            return False  # another worker was quicker
        except McpopsError as error:
            self._aside[run_id] = self.clock.monotonic_s() + SET_ASIDE_S
            self.say(f"run {run_id} is set aside: {': '.join(filter(None, (error.message, error.detail)))}")
        return True

    def serve(self, stop: threading.Event, wait_s: float, idle: Callable[[], None]) -> None:
        """Drive runs until told to stop; `idle` is done before each look."""
        while not stop.is_set():
            try:
                idle()
                worked = self.step()
            except McpopsError as error:  # the journal is out of reach; what it holds stays true
                self.say(f"waiting: {error.message}")
                worked = False
            if not worked:
                stop.wait(wait_s)
