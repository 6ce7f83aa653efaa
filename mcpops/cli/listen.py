"""Showing a run while it goes: one line an event, or a live table on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpops.cli.common import Session
from mcpops.cli.show import MARKS
from mcpops.engine.drive import Listener
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import StepRecord, StepState

if TYPE_CHECKING:
    from rich.live import Live


def mark(outcome: Outcome) -> str:
    """Return the sign of an outcome."""
    if outcome.good:
        return MARKS[StepState.DONE]
    return MARKS[StepState.UNKNOWN if outcome is Outcome.UNKNOWN else StepState.FAILED]


class LineListener(Listener):
    """One line an event, on stderr."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def step_began(self, record: StepRecord) -> None:
        """Say that a step begins."""
        self._session.say(f"▸ {record.step.name}")

    def result(self, record: StepRecord, result: Result) -> None:
        """Say what a task came to, if it changed something, failed, or -v asks for all."""
        if self._session.verbose or result.outcome not in (Outcome.OK, Outcome.SKIPPED):
            said = f": {result.message}" if result.message else ""
            self._session.say(f"    {result.host}: {result.task}: {result.outcome.value}{said}")

    def step_ended(self, record: StepRecord, report: AttemptReport) -> None:
        """Say what a step came to."""
        why = f": {report.reason}" if report.reason else ""
        self._session.say(f"{mark(report.outcome)} {record.step.name} ({report.duration_s:.1f} s){why}")


class LiveListener(LineListener):
    """Ended steps as lines that stay; below them what runs now, on which hosts, since when."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._live: Live | None = None

    def step_began(self, record: StepRecord) -> None:
        """Show a spinner with the elapsed time and the last result."""
        from rich.console import Console  # noqa: PLC0415 - only on a terminal
        from rich.live import Live  # noqa: PLC0415
        from rich.spinner import Spinner  # noqa: PLC0415

        self._stop()
        console = Console(stderr=True, no_color=not self._session.color, highlight=False)
        self._spinner = Spinner("dots", text=record.step.name)
        self._live = Live(self._spinner, console=console, transient=True, refresh_per_second=8)
        self._live.start()

    def result(self, record: StepRecord, result: Result) -> None:
        """Show the newest result beside the spinner; keep what failed."""
        if self._live is None:
            return
        self._spinner.update(text=f"{record.step.name}  {result.host}: {result.task}")
        if result.outcome in (Outcome.FAILED, Outcome.UNREACHABLE) or self._session.verbose:
            self._live.console.print(f"    {result.host}: {result.task}: {result.outcome.value}: {result.message}")

    def step_ended(self, record: StepRecord, report: AttemptReport) -> None:
        """Leave the line of the step."""
        self._stop()
        super().step_ended(record, report)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def listener(session: Session) -> LineListener:
    """Return the listener that fits where stderr goes."""
    return LiveListener(session) if session.live else LineListener(session)
