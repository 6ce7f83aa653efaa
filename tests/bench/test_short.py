"""The cutover bench in its short form, as a test: four cutovers under load lose nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench import faults
from tests.bench.cutover import SHORT, Load, holds, run, summary, table, write
from tests.bench.stacks import FrontStack

PORT = 18420


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_four_cutovers_lose_nothing(tmp_path: Path) -> None:
    blocks = asyncio.run(run(["front"], rounds=1, load=SHORT, port=PORT))
    row = summary(FrontStack.name, blocks["front"])
    write(tmp_path, [row], blocks)
    assert holds(row), f"{table([row])}\n{(tmp_path / 'cutover.json').read_text()[:4000]}"
    assert row["cutovers"] == SHORT.cutovers


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_slot_that_answers_500_is_left_only_where_the_guard_watches() -> None:
    """The same break, watched and not: what takes it back is the guard, and the bench can tell."""
    load = Load(rate_per_s=100.0)
    watched = asyncio.run(faults.run(["500"], repetitions=1, load=load, port=PORT))
    alone = asyncio.run(faults.run(["500"], repetitions=1, load=load, port=PORT, guard_s=0))
    assert [faults.judge(trial) for trial in watched] == [True], watched
    assert [faults.judge(trial) for trial in alone] == [False], alone
    assert alone[0].durable_ms is None
