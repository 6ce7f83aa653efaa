"""How things are said: nobody may hear them, and the exit code is that of what was done."""

from __future__ import annotations

import io
import json
import sys

import pytest

from mcpops.cli.common import Session, as_json, open_streams, settle_streams, tell
from mcpops.core.errors import Failed


class Deaf(io.StringIO):
    """A stream whose reader is gone, or whose disk is full."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


GONE, FULL = BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device")
CLOSED = ValueError("I/O operation on closed file")
ALL = pytest.mark.parametrize("error", [GONE, FULL, CLOSED], ids=["gone", "full", "closed"])


@ALL
def test_what_is_said_to_a_person_may_be_lost(monkeypatch, error):
    monkeypatch.setattr(sys, "stderr", Deaf(error))

    Session().say("a step began")
    tell("mcpops: error: it is so")


@ALL
def test_what_was_done_stays_done_when_the_report_of_it_is_lost(monkeypatch, capsys, error):
    monkeypatch.setattr(sys, "stdout", Deaf(error))

    Session().report({"id": "run-1"}, "done: run run-1")

    assert "standard output cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("error", [FULL, CLOSED], ids=["full", "closed"])
def test_an_answer_that_is_lost_is_no_success(monkeypatch, error):
    monkeypatch.setattr(sys, "stdout", Deaf(error))

    with pytest.raises(Failed, match="could not be written"):
        Session().emit({"runs": []}, "no runs yet")


def test_a_reader_that_went_away_had_enough(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Deaf(GONE))

    assert Session().emit({}, "a line") is False


def test_a_stream_that_the_caller_closed_leads_nowhere(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)

    open_streams()

    print("into nothing", file=sys.stderr, flush=True)
    print("into nothing", flush=True)
    assert sys.stdin.read() == ""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.close()


def test_nobody_watches_a_terminal_that_is_gone(monkeypatch):
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stderr", gone)

    assert Session().live is False
    settle_streams()


def test_json_fits_into_any_encoding(monkeypatch):
    value = {"said": "✓ é \udcff"}
    for encoding in ("utf-8", "latin-1", "ascii"):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        open_streams()
        out.write(as_json(value))
        out.flush()
        assert json.loads(out.buffer.getvalue()) == value, encoding
