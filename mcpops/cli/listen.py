"""Showing a run while it goes: one line an event, or a live table on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from mcpops.cli.common import Session
from mcpops.cli.show import MARKS
from mcpops.engine.drive import Listener
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import StepRecord, StepState

if TYPE_CHECKING:
    from types import TracebackType

    from rich.live import Live
    from rich.text import Text


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

    def close(self) -> None:
        """Hold nothing."""


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

        self.close()
        console = Console(stderr=True, no_color=not self._session.color, highlight=False)
        self._spinner = Spinner("dots", text=_plain(record.step.name))
        self._live = Live(self._spinner, console=console, transient=True, refresh_per_second=8)
        self._live.start()

    def result(self, record: StepRecord, result: Result) -> None:
        """Show the newest result beside the spinner; keep what failed."""
        if self._live is None:
            return
        self._spinner.update(text=_plain(f"{record.step.name}  {result.host}: {result.task}"))
        if result.outcome in (Outcome.FAILED, Outcome.UNREACHABLE) or self._session.verbose:
            said = f"    {result.host}: {result.task}: {result.outcome.value}: {result.message}"
            self._live.console.print(_plain(said), soft_wrap=True)

    def step_ended(self, record: StepRecord, report: AttemptReport) -> None:
        """Leave the line of the step."""
        self.close()
        super().step_ended(record, report)

    def close(self) -> None:
        """Take the spinner away and give the cursor back."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()


class BestEffort(Listener):
    """Shows what it hears by another listener, and goes on line by line when that one fails.

    What is shown is written already, and hosts are in the middle of something: showing never stops the acting.
    """

    def __init__(self, session: Session, shown: LineListener) -> None:
        self._session, self._shown = session, shown

    def step_began(self, record: StepRecord) -> None:
        """Show that a try of a step begins."""
        self._try(lambda shown: shown.step_began(record))

    def result(self, record: StepRecord, result: Result) -> None:
        """Show what one task came to on one host."""
        self._try(lambda shown: shown.result(record, result))

    def step_ended(self, record: StepRecord, report: AttemptReport) -> None:
        """Show the outcome of a try."""
        self._try(lambda shown: shown.step_ended(record, report))

    def __enter__(self) -> BestEffort:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back, also after Ctrl-C."""
        self._try(lambda shown: shown.close())

    def _try(self, show: Callable[[LineListener], None]) -> None:
        try:
            show(self._shown)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - rich answers a broken pipe with the latter
            broken, self._shown = self._shown, LineListener(self._session)
            with suppress(Exception, SystemExit):
                broken.close()
            self._session.say(f"mcpops: warning: the live view failed ({error!r}); from here line by line")


def _plain(text: str) -> Text:
    """Return text that is shown as it is: in a plain str, rich takes `[…]` for its markup and `:…:` for emoji."""
    from rich.text import Text  # noqa: PLC0415 - only on a terminal

    return Text(text)


def listener(session: Session) -> BestEffort:
    """Return the listener that fits where stderr goes; it gives a terminal back at the end of its `with`."""
    return BestEffort(session, LiveListener(session) if session.live else LineListener(session))
