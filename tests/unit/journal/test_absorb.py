"""Rollbacks that were done without the journal become runs of it."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from mcpops.core.clock import to_text
from mcpops.core.errors import ExitCode
from mcpops.journal.absorb import PATIENCE, absorb
from mcpops.journal.store import Store
from mcpops.model.outcome import Outcome
from tests.unit.engine.stand import Stand, step


def told(stand, **changes) -> dict:
    at = to_text(stand.clock.at)
    row = {"state": "done", "started_at": at, "duration_s": 0.2, "outputs": {"release": "r1"}}
    row["results"] = [
        {"host": "h", "task": "activate", "outcome": "changed", "message": "", "duration_ms": 5, "ignored": False}
    ]
    return {
        "id": "roll-1", "environment": "lab", "runbook": "rollback", "state": "done", "plan_digest": "sha256:1",
        "parameters": {}, "requested_by": "ada", "started_at": at, "ended_at": at, "exit_code": 0, "reason": "",
        "fence": 99, "steps": [row],
    } | changes  # fmt: skip


@pytest.fixture
def stand(tmp_path):
    return Stand(tmp_path, {})


def put(tmp_path, record) -> list:
    path = tmp_path / f"{record['id']}.json"
    path.write_text(json.dumps(record))
    return [path]


def test_a_rollback_is_taken_in_once_and_verifies(stand, tmp_path):
    files = put(tmp_path, told(stand))

    assert absorb(stand.store, stand.clock, files) == ["roll-1"]
    assert absorb(stand.store, stand.clock, files) == []

    run = stand.journal.run("roll-1")
    assert (run.state, run.exit_code) == ("done", 0)
    assert [result.outcome for result in run.steps[0].results] == [Outcome.CHANGED]
    assert stand.journal.integrity("roll-1")[1] is None


def test_the_next_run_outranks_the_rollback_whatever_the_clock_says(stand, tmp_path):
    far = 10**15

    absorb(stand.store, stand.clock, put(tmp_path, told(stand, fence=far)))

    assert stand.begin(step("one")).lease.fence == far + 1


def test_a_lease_in_force_keeps_its_number(stand, tmp_path):
    writer = stand.begin(step("one"))

    absorb(stand.store, stand.clock, put(tmp_path, told(stand, fence=10**15)))

    writer.renew()


def test_a_killed_rollback_is_unknown_after_a_while_and_not_before(stand, tmp_path):
    files = put(tmp_path, told(stand, state="running", ended_at=None, exit_code=None))

    assert absorb(stand.store, stand.clock, files) == []
    stand.clock.at += PATIENCE + timedelta(seconds=1)
    assert absorb(stand.store, stand.clock, files) == ["roll-1"]

    assert stand.journal.run("roll-1").exit_code == ExitCode.UNKNOWN


ODD = {
    "cut": "{",
    "a list": "[]",
    "nothing": "null",
    "no keys": "{}",
    "no steps": {"steps": []},
    "a state of nobody": {"state": "lost"},
    "no end": {"state": "running"},
    "a number for a text": {"requested_by": 7},
    "null for a text": {"plan_digest": None},
    "no time": {"started_at": "noon"},
    "a naive time": {"ended_at": "2026-11-24T12:00:00"},
    "a fence of words": {"fence": "high"},
    "a fence beyond all numbers": {"fence": 10**30},
    "parameters that are none": {"parameters": 7},
}


@pytest.mark.parametrize("what", ODD)
def test_a_file_that_is_no_record_is_left_alone(stand, tmp_path, what):
    odd = ODD[what]
    path = tmp_path / "roll-1.json"
    path.write_text(odd if isinstance(odd, str) else json.dumps(told(stand) | odd))

    assert absorb(stand.store, stand.clock, [path]) == []

    assert path.exists()
    assert stand.journal.runs() == []
    assert stand.journal.verify() == (0, None)


@pytest.mark.parametrize(
    "row", [{"outcome": "fine"}, {"more": 1}, {"host": ["h"]}, {"duration_ms": None}, {"message": {"a": 1}}]
)
def test_a_record_with_an_odd_result_is_left_alone(stand, tmp_path, row):
    record = told(stand)
    record["steps"][0]["results"][0] |= row

    assert absorb(stand.store, stand.clock, put(tmp_path, record)) == []
    assert stand.journal.runs() == []


def test_a_copy_of_a_record_is_left_alone(stand, tmp_path):
    [path] = put(tmp_path, told(stand))
    copy = tmp_path / "roll-1 (copy).json"
    copy.write_text(path.read_text())

    assert absorb(stand.store, stand.clock, [copy, path]) == ["roll-1"]
    assert absorb(stand.store, stand.clock, [copy, path]) == []


def test_a_record_that_another_process_took_in_meanwhile_is_not_taken_in_again(stand, tmp_path):
    def meanwhile():
        [path] = put(tmp_path, told(stand))
        assert absorb(stand.store, stand.clock, [path]) == ["roll-1"]
        yield path

    assert absorb(stand.store, stand.clock, meanwhile()) == []


def test_of_two_at_once_each_record_is_taken_in_by_one(stand, tmp_path):
    count, records = 12, tmp_path / "records"
    records.mkdir()
    files = [path for number in range(count) for path in put(records, told(stand, id=f"roll-{number}"))]
    at_once = threading.Barrier(2, timeout=20)

    def one(_number):
        store = Store(stand.store.path)
        at_once.wait()
        return absorb(store, stand.clock, files)

    with ThreadPoolExecutor(2) as pool:
        taken = [run_id for ids in pool.map(one, range(2)) for run_id in ids]

    assert sorted(taken) == sorted(path.stem for path in files)
    assert len(stand.journal.runs()) == count
    assert stand.journal.verify()[1] is None
