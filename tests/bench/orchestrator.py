"""A control node as a process of its own: each cutover is a real run, through the real journal and the engine's driver.

`python -m tests.bench.orchestrator JOURNAL TARGET`. TARGET is a front as JSON. Each line of stdin, {"slot", "bake_s"},
is one run of two direct steps, cutover and bake. Two lines of stdout for each: {"intent_at_ns", "switched_at_ns"}
once the cutover is concluded (the first from the attempt's row in the journal), {"ended", "reason"} at its end.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import select

from mcpops.cli.direct import direct_executors
from mcpops.core.clock import SystemClock
from mcpops.core.errors import McpopsError
from mcpops.core.ids import new_run_id
from mcpops.core.redaction import Redactor
from mcpops.engine.drive import Driver, Executors, Listener
from mcpops.engine.execution import Execution, StepContext
from mcpops.journal import tables
from mcpops.journal.queries import Journal
from mcpops.journal.store import Store
from mcpops.journal.writes import RunWriter
from mcpops.model.outcome import AttemptReport
from mcpops.model.run import Request, StepRecord
from mcpops.model.step import Step, StepKind
from mcpops.model.target import Target

STEPS = (
    Step(name="cutover", kind=StepKind.PLAY, hosts="fronts", body="", line=1, direct="cutover", undo=True),
    Step(name="bake", kind=StepKind.PLAY, hosts="fronts", body="", line=2, direct="bake", commits=True),
)


class Teller(Listener):
    """Says when the cutover is concluded."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run_id = store, run_id

    def step_ended(self, record: StepRecord, report: AttemptReport) -> None:
        if record.step.name == "cutover" and report.outcome.good:
            tell({"intent_at_ns": intent_at_ns(self._store, self._run_id), "switched_at_ns": time.time_ns()})


def intent_at_ns(store: Store, run_id: str) -> int:
    """When the journal says that the first try of the first step was intended, in nanoseconds of Unix time."""
    row = tables.attempt.c
    query = select(row.intent_at_ns).where((row.run_id == run_id) & (row.seq == 1) & (row.number == 1))
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def tell(what: dict[str, Any]) -> None:
    """Write one line to whoever drives the bench."""
    print(json.dumps(what), flush=True)


def cut_over(store: Store, target: Target, slot: str, bake_s: float) -> None:
    """Do one run to its end."""
    clock = SystemClock()
    run_id = new_run_id(clock.now())
    request = Request(
        environment="bench", runbook="cutover", parameters={"slot": slot, "blue_green_bake_s": bake_s},
        requested_by="bench", plan_digest="sha256:bench", snapshot=str(store.path.parent), steps=STEPS,
    )  # fmt: skip
    writer = RunWriter.begin(store, clock, run_id, request)
    executors = Executors(
        play=no_play, probe=no_play, barrier=no_play, direct=direct_executors(lambda: (target,)), gates={},
        undo_play=lambda step: "",
    )  # fmt: skip
    end = Driver(Journal(store), writer, executors, Teller(store, run_id), Redactor(())).drive()
    tell({"ended": end.state.value, "reason": end.reason})


def no_play(context: StepContext) -> Execution:
    """Refuse: every step here is direct."""
    raise AssertionError(f"step {context.step.name} is not direct")


def main() -> None:
    """Do the runs of stdin, one after the other, until it ends."""
    store, target = Store(Path(sys.argv[1])), Target(**json.loads(sys.argv[2]))
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            cut_over(store, target, asked["slot"], asked["bake_s"])
        except McpopsError as error:
            tell({"ended": type(error).__name__, "reason": f"{error.message}; {error.detail}"})


if __name__ == "__main__":
    main()
