"""The cutover bench in its short form, as a test: four cutovers under load lose nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench.cutover import SHORT, holds, run, summary, table, write
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
