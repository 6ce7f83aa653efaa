"""drive: do the steps of a run one by one, each between its INTENT and its OUTCOME."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcpops.ansible import private
from mcpops.core.canonical import storable
from mcpops.core.errors import ExitCode, Fenced, McpopsError, Unknown
from mcpops.core.failpoint import failpoint
from mcpops.core.redaction import Redactor
from mcpops.engine.decide import End, committed, decide, to_do_again, to_undo
from mcpops.engine.execution import DONE, PROBE, Execution, Executor, GateWaits, StepContext
from mcpops.engine.heartbeat import Heartbeat
from mcpops.journal.queries import Journal
from mcpops.journal.trouble import TROUBLE, Damaged
from mcpops.journal.writes import RunWriter
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import Run, RunState, StepRecord, StepState
from mcpops.model.step import OnInterrupt, Step, StepKind

BARRIER_S = 120.0  # a host that is up answers in a second; ten at a time


@dataclass(frozen=True)
class Executors:
    """The explicit tables of how steps are done: plays by `play`, the rest by name."""

    play: Executor
    probe: Executor
    barrier: Executor
    direct: Mapping[str, Executor]
    gates: Mapping[str, Executor]
    undo_play: Callable[[Step], str]


class Listener:
    """Hears what happens, to show it; hears after it was written."""

    def step_began(self, record: StepRecord) -> None:
        """Tell that a try of a step begins."""

    def result(self, record: StepRecord, result: Result) -> None:
        """Tell what one task came to on one host."""

    def step_ended(self, record: StepRecord, report: AttemptReport) -> None:
        """Tell the outcome of a try."""


class Driver:
    """Drives one run, under the lease of `writer`, until it ends or waits.

    What `redactor` knows is in nothing that is written or told: a play takes it out by itself, before it shortens a
    text, but gates and direct steps quote hosts and the inventory too. `timeout_s` bounds what goes forward: a step
    still at work then is unknown, and what was done is taken back. Once a step that commits is done there is nothing
    to take back any more, and nothing is cut. `localize` turns what the journal says of the run's files into where they
    are on this machine.
    """

    def __init__(
        self,
        journal: Journal,
        writer: RunWriter,
        executors: Executors,
        listener: Listener,
        redactor: Redactor,
        *,
        timeout_s: float | None = None,
        localize: Callable[[Run], Run] = lambda run: run,
    ) -> None:
        self.journal = journal
        self.writer = writer
        self.executors = executors
        self.listener = listener
        self.redactor = redactor
        self.cancel = threading.Event()
        self._deadline = private.lease_file(writer.run_id, writer.lease.fence)
        self._heartbeat = Heartbeat(writer, self.cancel, self._deadline)
        self._planned: dict[int, tuple[object, ...]] = {}
        self._localize = localize
        self._until_s = writer.clock.monotonic_s() + timeout_s if timeout_s is not None else None

    def drive(self) -> End:
        """Do what is left of the run. Raises Fenced when the right to act is lost; the run can be resumed then.

        Only a run that a host refused has ended: another run is in charge there.
        """
        with self._heartbeat as heartbeat:
            try:
                return self._drive()
            except BaseException as error:
                self.cancel.set()
                if heartbeat.error:
                    raise heartbeat.error from None
                if isinstance(error, Fenced):
                    self._end_fenced(error)
                raise

    def _drive(self) -> End:
        self._take_hosts()
        for record, reason in to_do_again(self._run().steps):
            self.writer.set_step(record.seq, StepState.PENDING, why=reason)
        while True:
            run = self._run()
            following = decide(run.steps)
            if isinstance(following, End):
                failpoint("before-end")
                self.writer.end(following.state, following.exit_code, following.reason)
                return following
            waits = self._step(run, following)
            if waits:
                self.writer.end(RunState.WAITING, ExitCode.WAITING, waits)
                return End(RunState.WAITING, ExitCode.WAITING, waits)

    def _run(self) -> Run:
        """Return the run as it stands. Raises Damaged when a step is not the one that was there before.

        What is done is read from the journal each time; whoever can write there must not change it under way.
        """
        run = self.journal.run(self.writer.run_id)
        for record in run.steps:
            said = (record.step, run.parameters, run.snapshot)
            if self._planned.setdefault(record.seq, said) != said:
                raise Damaged(
                    f"step {record.step.name} of run {run.id} was changed in the journal while the run went on",
                    hint=f"`mcpops journal verify`; then `mcpops runs abandon {run.id} --yes`",
                )
        return self._localize(run)

    def _take_hosts(self) -> None:
        """Bring the fence to every host, when an earlier holder did not give the lease back: it may still act.

        Raises Unknown when a host does not answer: nobody knows what goes on there.
        """
        if not self.writer.lease.dirty:
            return
        run = self._run()
        step = replace(run.steps[0].step, name="barrier", timeout_s=BARRIER_S, minimum_hosts=None, minimum_checks=1)
        context = self._context(run, run.steps[0], step)
        report = self._ask(self.executors.barrier, context)
        self._require_lease()
        if not report.outcome.good:
            raise Unknown(
                f"run {run.id} cannot go on: an earlier run may still act on a host that does not answer",
                detail=self.redactor(report.reason),
                hint="resume it when all hosts answer, or take the lost ones out of the inventory and give the run up",
            )
        self.writer.hosts_taken()

    def _step(self, run: Run, record: StepRecord) -> str:
        """Do one step; return what it waits for, or nothing."""
        if record.state is StepState.RUNNING and self._was_done(run, record):
            return ""
        context = self._context(run, record, record.step)
        execution = self._execution(context)
        try:
            report = self._try(record, context, execution)
        except GateWaits as gate:
            self.writer.set_step(record.seq, StepState.WAITING, why=str(gate))
            return str(gate)
        finally:
            execution.close()
        self._require_lease()
        self._conclude(run, record, context.number, report)
        return ""

    def _require_lease(self) -> None:
        """Raise what the heartbeat found. A step that was cancelled for it has not failed: nothing is written of it."""
        if self._heartbeat.error:
            raise self._heartbeat.error

    def _try(self, record: StepRecord, context: StepContext, execution: Execution) -> AttemptReport:
        started_s = self.writer.clock.monotonic_s()
        problem: AttemptReport | None = None
        try:
            execution.prepare()
        except (Fenced, GateWaits, *TROUBLE):
            raise
        except McpopsError as error:
            problem = _from_error(error)
        self.writer.intend(record.seq, context.number)
        failpoint(f"after-intent:{record.step.name}")
        self.listener.step_began(record)
        if problem is None:
            try:
                problem = execution.act()
            except (Fenced, *TROUBLE):
                raise
            except McpopsError as error:
                problem = _from_error(error)
        return replace(self._clean(problem), duration_s=self.writer.clock.monotonic_s() - started_s)

    def _clean(self, report: AttemptReport) -> AttemptReport:
        """Redact what a report says; its outputs are data, and whoever made them answers for them."""
        results = tuple(map(self._clean_result, report.results))
        return replace(report, reason=self._text(report.reason), results=results, outputs=storable(report.outputs))

    def _clean_result(self, result: Result) -> Result:
        return replace(result, task=self._text(result.task), message=self._text(result.message))

    def _text(self, said: str) -> str:
        return str(storable(self.redactor(said)))

    def _conclude(self, run: Run, record: StepRecord, number: int, report: AttemptReport) -> None:
        failpoint(f"before-outcome:{record.step.name}")
        undo: list[tuple[int, Step]] = []
        others: list[int] = []
        if not report.outcome.good:
            undo = [(done.seq, undo_step(done.step, self.executors.undo_play)) for done in to_undo(run.steps, record)]
            others = [other.seq for other in run.steps if other.state is StepState.RUNNING and other.seq != record.seq]
        self.writer.conclude(record.seq, number, report, undo=undo, next_seq=len(run.steps) + 1, interrupted=others)
        self.listener.step_ended(record, report)

    def _was_done(self, run: Run, record: StepRecord) -> bool:
        """Ask, after a crash, whether the interrupted try happened; direct steps see it in `prepare`."""
        step = record.step
        if step.direct or step.kind is not StepKind.PLAY or step.on_interrupt is OnInterrupt.RERUN:
            return False
        if step.on_interrupt is OnInterrupt.ASK:
            self._conclude(run, record, len(record.attempts), _interrupted())
            return True
        report = self._ask(self.executors.probe, self._context(run, record, step))
        self._require_lease()
        if not (report.outcome.good and report.outputs.get(PROBE) == DONE):
            return False
        report = replace(self._clean(report), reason="a probe found it done")
        self.writer.conclude(record.seq, len(record.attempts), report)
        return True

    def _ask(self, executor: Executor, context: StepContext) -> AttemptReport:
        """Return what a question about the step comes to; one that cannot be asked found nothing."""
        question = _made(executor, context)
        try:
            question.prepare()
            return question.act()
        except (Fenced, *TROUBLE):
            raise
        except McpopsError as error:
            return _from_error(error)
        finally:
            question.close()

    def _context(self, run: Run, record: StepRecord, step: Step) -> StepContext:
        return StepContext(
            run=run,
            seq=record.seq,
            step=self._bounded(run, step),
            number=len(record.attempts) + 1,
            fence=self.writer.lease.fence,
            variables=_variables(run),
            snapshot=Path(run.snapshot),
            cancel=self.cancel,
            deadline=self._deadline,
            on_result=lambda result: self.listener.result(record, self._clean_result(result)),
        )

    def _bounded(self, run: Run, step: Step) -> Step:
        """Return the step with no more time than the run has left.

        Taking back has all the time it needs, and so has what follows a step that committed.
        """
        if self._until_s is None or step.kind is StepKind.UNDO or committed(run.steps):
            return step
        left_s = max(0.1, self._until_s - self.writer.clock.monotonic_s())
        return replace(step, timeout_s=min(step.timeout_s, left_s))

    def _execution(self, context: StepContext) -> Execution:
        step = context.step
        if step.gate:
            return _made(self.executors.gates[step.gate], context)
        if step.direct:
            return _made(self.executors.direct[step.direct], context)
        return _made(self.executors.play, context)

    def _end_fenced(self, error: Fenced) -> None:
        """Say in the record that hosts refused this run; without the lease nothing can be said."""
        report = self._clean(AttemptReport(outcome=Outcome.UNKNOWN, reason=f"{error.message}: {error.detail}"))
        try:
            for record in self.journal.run(self.writer.run_id).steps:
                if record.state is StepState.RUNNING:
                    self.writer.conclude(record.seq, len(record.attempts), report)
                    self.listener.step_ended(record, report)
            self.writer.end(RunState.FAILED, ExitCode.FENCED, report.reason)
        except (Fenced, *TROUBLE):
            return


class _Unmade:
    """Stands for a step that could not be made: its first try ends with the reason."""

    def __init__(self, error: McpopsError) -> None:
        self._error = error

    def prepare(self) -> None:
        """Raise the reason."""
        raise self._error

    def act(self) -> AttemptReport:
        """Raise the reason."""
        raise self._error

    def close(self) -> None:
        """Hold nothing."""


def undo_step(step: Step, undo_play: Callable[[Step], str]) -> Step:
    """Return the step that takes another back; how much work that one had to show does not bind its undo."""
    body = step.body if step.direct else undo_play(step)
    # It may have less to do, and on some hosts nothing at all: unknown would lock the environment.
    back = replace(step, name=f"undo {step.name}", kind=StepKind.UNDO, body=body, undo=False, commits=False)
    return replace(back, minimum_hosts=1, minimum_checks=1)


def _made(executor: Executor, context: StepContext) -> Execution:
    """Make an execution. What forbids it is an outcome of the step like any other: what was done is taken back."""
    try:
        return executor(context)
    except (Fenced, *TROUBLE):
        raise
    except McpopsError as error:
        return _Unmade(error)


def _variables(run: Run) -> dict[str, Any]:
    variables = dict(run.parameters)
    for record in run.steps:
        if record.state is StepState.DONE:
            variables.update(record.outputs)
    return variables


def _from_error(error: McpopsError) -> AttemptReport:
    outcome = Outcome.UNKNOWN if error.code is ExitCode.UNKNOWN else Outcome.FAILED
    said = "; ".join(part for part in (error.message, error.detail, error.hint) if part)
    return AttemptReport(outcome=outcome, reason=said)


def _interrupted() -> AttemptReport:
    return AttemptReport(outcome=Outcome.UNKNOWN, reason="interrupted, and the step says that a person decides")
