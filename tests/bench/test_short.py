"""The benches in their short forms, as tests: what they measure holds, and they see it when it does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench import faults, rollback
from tests.bench.cutover import SHORT, STACKS, Load, TooBusy, loses_nothing, run, summary, table, write
from tests.bench.rollback_stands import Stand, ssh

PORT = 18420


@pytest.mark.timeout(120)
def test_four_cutovers_by_real_runs_lose_nothing(tmp_path: Path) -> None:
    """Part of every run of the tests; how long a switch takes is for the bench, on a quiet machine."""
    try:
        blocks = asyncio.run(run(["engine"], rounds=1, load=SHORT, port=PORT))
    except TooBusy as error:
        pytest.skip(f"not on this machine: time for a load of {SHORT.rate_per_s:g} requests/s ({error})")
    row = summary(STACKS["engine"].name, blocks["engine"])
    write(tmp_path, [row], blocks)
    assert loses_nothing(row), f"{table([row])}\n{(tmp_path / 'cutover-engine.json').read_text()[:4000]}"
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


class Nowhere(Stand):
    """A stand whose playbook is told the wrong slot."""

    @property
    def good(self) -> str:
        return self.bad


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_rollback_over_ssh_is_seen_by_clients_and_one_that_goes_nowhere_is_seen_too() -> None:
    with ssh(PORT + 30) as stand:
        trial = asyncio.run(rollback.try_once("mcpops", stand))
        peer = asyncio.run(rollback.try_once("playbook", stand))
        nowhere = asyncio.run(rollback.try_once("playbook", Nowhere(**vars(stand))))
    assert [rollback.problem(trial), rollback.problem(peer)] == ["", ""]
    assert trial.last_bad_ms < peer.last_bad_ms
    assert "answered by the bad slot" in rollback.problem(nowhere)
