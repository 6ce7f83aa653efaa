"""Showing a run: every text as it is, and a listener that fails stops nothing."""

from __future__ import annotations

import io
import re
import sys

import pytest

from mcpops.cli.common import Session
from mcpops.cli.listen import BestEffort, LineListener, LiveListener, listener
from mcpops.engine.drive import Listener
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import StepRecord, StepState
from tests.unit.engine.stand import step

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
# What a person, a module or a playbook may write, and what rich would make something else of, or die of.
TEXTS = ("a [/red] b", "[error] no space", "[bold]x[/bold]", "say :warning: twice", "[link=x]y", "open [", "\\[x]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch):
    """Return what puts a terminal in place of stderr; pytest has a stderr of its own for each phase of a test."""

    def install():
        made = Terminal()
        monkeypatch.setattr(sys, "stderr", made)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("TERM", "xterm-256color")
        return made

    return install


def record(name: str) -> StepRecord:
    return StepRecord(seq=1, step=step(name), state=StepState.RUNNING)


def tell(shown: Listener, text: str) -> None:
    """A step whose name, task, message and reason hold the text."""
    shown.step_began(record(text))
    shown.result(record(text), Result(host="h", task=text, outcome=Outcome.FAILED, message=text))
    shown.step_ended(record(text), AttemptReport(outcome=Outcome.FAILED, reason=text))


@pytest.mark.parametrize("text", TEXTS)
def test_a_terminal_shows_a_text_as_it_is(terminal, text):
    seen = terminal()
    with listener(Session()) as shown:
        tell(shown, text)

    assert f"    h: {text}: failed: {text}" in seen.text
    assert f"✗ {text} (0.0 s): {text}" in seen.text
    assert f"{text}  h: {text}" in seen.text, "beside the spinner"
    assert "live view failed" not in seen.text


@pytest.mark.parametrize("text", TEXTS)
def test_a_line_shows_a_text_as_it_is(capsys, text):
    with listener(Session()) as shown:
        tell(shown, text)

    assert f"    h: {text}: failed: {text}" in capsys.readouterr().err


def test_the_cursor_comes_back_after_ctrl_c(terminal):
    def interrupted():
        with listener(Session()) as shown:
            shown.step_began(record("stage"))
            raise KeyboardInterrupt

    seen = terminal()
    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert HIDE in seen.getvalue()
    assert seen.getvalue().rindex(SHOW) > seen.getvalue().rindex(HIDE)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), BrokenPipeError(32, "gone"), SystemExit(1)], ids=repr)
def test_a_listener_that_fails_stops_nothing(capsys, error):
    class Failing(LineListener):
        def step_began(self, record):
            raise error

        def close(self):
            raise error

    with BestEffort(Session(), Failing(Session())) as shown:
        tell(shown, "stage")
        tell(shown, "switch")

    said = capsys.readouterr().err
    assert said.count("live view failed") == 1
    assert "✗ stage" in said
    assert "▸ switch" in said


def test_a_terminal_that_hangs_up_stops_nothing(monkeypatch):
    class Hangs(Terminal):
        def write(self, text):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Hangs())

    with listener(Session()) as shown:
        tell(shown, "stage")


def test_off_a_terminal_there_is_one_line_an_event(capsys):
    session = Session()
    assert session.live is False

    assert not isinstance(listener(session)._shown, LiveListener)
