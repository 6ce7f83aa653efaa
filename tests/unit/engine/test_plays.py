"""A probe of several uses of roles: all of them must say that they are done."""

from __future__ import annotations

import pytest

from mcpops.engine.plays import ProbeExecution
from mcpops.model.outcome import AttemptReport, Outcome, Result


class Told:
    """A play with a given report."""

    def __init__(self, probe: str | None, outcome: Outcome = Outcome.OK) -> None:
        self.asked = False
        results = (Result(host="h", task=str(probe), outcome=outcome),)
        self.report = AttemptReport(outcome=outcome, results=results, outputs={"probe": probe} if probe else {})

    def act(self) -> AttemptReport:
        self.asked = True
        return self.report


@pytest.mark.parametrize(
    ("plays", "done", "asked"),
    [
        ([Told("done"), Told("done")], True, 2),
        ([Told("done"), Told("not_done"), Told("done")], False, 2),
        ([Told("not_done"), Told("done")], False, 1),
        ([Told("partial")], False, 1),
        ([Told(None), Told("done")], False, 1),
        ([Told("done", Outcome.FAILED), Told("done")], False, 1),
        ([Told("done"), Told("done", Outcome.UNKNOWN)], False, 2),
        ([], False, 0),
    ],
)
def test_all_must_say_done(plays: list[Told], done: bool, asked: int) -> None:
    report = ProbeExecution(plays).act()
    assert (report.outcome.good and report.outputs.get("probe") == "done") is done
    assert [play.asked for play in plays] == [n < asked for n in range(len(plays))]
    assert len(report.results) == asked
