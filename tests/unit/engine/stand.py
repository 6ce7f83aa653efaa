"""A real journal in a temporary directory, and executions that do what a test says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mcpops.core.errors import McpopsError
from mcpops.core.redaction import Redactor
from mcpops.engine.drive import Driver, Executors, Listener
from mcpops.engine.execution import StepContext
from mcpops.journal import tables
from mcpops.journal.queries import Journal
from mcpops.journal.store import Store
from mcpops.journal.writes import RunWriter
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import Request
from mcpops.model.step import Step, StepKind

OK = AttemptReport(outcome=Outcome.OK, results=(Result(host="h", task="t", outcome=Outcome.OK),))
CHANGED = AttemptReport(outcome=Outcome.CHANGED, results=(Result(host="h", task="t", outcome=Outcome.CHANGED),))
FAILED = AttemptReport(outcome=Outcome.FAILED, reason="it broke")
UNKNOWN = AttemptReport(outcome=Outcome.UNKNOWN, reason="nobody knows")


class SetClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        self.at += timedelta(milliseconds=1)
        return self.at

    def monotonic_s(self) -> float:
        return self.at.timestamp()


class Scripted:
    """One execution: returns or raises what the script says for the step's name."""

    def __init__(self, context: StepContext, script: dict, log: list[str]) -> None:
        self.context, self.script, self.log = context, script, log

    def prepare(self) -> None:
        self._play(self.script.get(f"prepare {self.context.step.name}"))

    def act(self) -> AttemptReport:
        self.log.append(self.context.step.name)
        return self._play(self.script.get(self.context.step.name, OK))

    def close(self) -> None:
        self.log.append(f"close {self.context.step.name}")

    def _play(self, what):
        if callable(what):
            what = what(self.context)
        if isinstance(what, BaseException):
            raise what
        return what


def step(name: str, **settings) -> Step:
    return Step(
        **({"name": name, "kind": StepKind.PLAY, "hosts": "all", "body": f"- name: {name}", "line": 1} | settings)
    )


def request(*steps: Step, environment: str = "lab", schedule: str | None = None) -> Request:
    return Request(
        environment=environment,
        runbook="deploy",
        parameters={"release": "r1"},
        requested_by="ada",
        plan_digest="sha256:00",
        snapshot="/nowhere",
        steps=steps,
        schedule=schedule,
    )


class Stand:
    """A journal and a way to drive a run in it."""

    def __init__(
        self, directory: Path, script: dict[str, AttemptReport | McpopsError | Callable], where=None, sealer=None
    ) -> None:
        self.where = where or directory / "journal.sqlite"
        self.clock, self.script, self.log = SetClock(), script, []
        self.secrets: list[str] = []
        self.listener = Listener()
        self.unmade: dict[str, McpopsError] = {}  # steps of which no execution can be made
        self.store = Store(self.where, sealer)
        self.journal = Journal(self.store)

    def begin(self, *steps: Step, run_id: str = "run-1", environment: str = "lab") -> RunWriter:
        return RunWriter.begin(self.store, self.clock, run_id, request(*steps, environment=environment))

    def drive(self, writer: RunWriter, timeout_s: float | None = None):
        def make(context, script, name):
            if name in self.unmade:
                raise self.unmade[name]
            return Scripted(context, script, self.log)

        def scripted(context):
            return make(context, self.script, context.step.name)

        def probe(context):
            name = context.step.name
            return make(context, {name: self.script.get(f"probe {name}", OK)}, f"probe {name}")

        executors = Executors(
            play=scripted,
            probe=probe,
            barrier=lambda context: make(context, {"barrier": self.script.get("barrier", OK)}, "barrier"),
            direct={"cutover": scripted, "bake": scripted},
            gates={"approval": scripted, "freeze": scripted},
            undo_play=lambda step: f"- name: undo {step.name}",
        )
        redactor = Redactor(self.secrets)
        return Driver(self.journal, writer, executors, self.listener, redactor, timeout_s=timeout_s).drive()

    def acted(self) -> list[str]:
        return [line for line in self.log if not line.startswith("close ") and line != "barrier"]


def crash(stand: Stand, writer: RunWriter) -> None:
    """End the driving process's story: the next one finds its holder gone."""
    with stand.store.write() as connection:
        connection.execute(tables.environment.update().values(holder=writer.lease.holder.rsplit(":", 1)[0] + ":other"))
