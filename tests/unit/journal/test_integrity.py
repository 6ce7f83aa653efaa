"""Whoever changes a table, or takes rows off the end of the record, is found: nothing verifies that is not proved."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import delete, insert, update

from mcpops.core.canonical import digest
from mcpops.engine.execution import GateWaits
from mcpops.journal import chain, tables
from mcpops.journal.absorb import absorb
from mcpops.journal.writes import RunWriter
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.step import StepKind
from tests.people import decides
from tests.unit.engine.stand import FAILED, Stand, crash, step
from tests.unit.journal.test_absorb import put, told
from tests.unit.journal.test_store import damage


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run that waited, was approved, was killed, was resumed, failed and was taken back; and one that is done."""
    stand = Stand(tmp_path_factory.mktemp("written"), {"prepare gate": GateWaits("approval")})
    row = Result(host="h", task="t", outcome=Outcome.CHANGED, duration_ms=7)
    stand.script["one"] = AttemptReport(outcome=Outcome.CHANGED, results=(row,), outputs={"slot": "green", "n": 1.5})
    stand.drive(stand.begin(step("one", undo=True), step("gate", kind=StepKind.GATE, gate="approval"), step("two")))
    decides(stand, by="grace")
    stand.script |= {"prepare gate": None, "two": KeyboardInterrupt()}
    writer = RunWriter.take_over(stand.store, stand.clock, "lab", "run-1")
    with pytest.raises(KeyboardInterrupt):
        stand.drive(writer)
    crash(stand, writer)
    stand.script["two"] = FAILED
    stand.drive(RunWriter.take_over(stand.store, stand.clock, "lab", "run-1"))
    stand.drive(stand.begin(step("only"), run_id="run-2"))
    with closing(sqlite3.connect(stand.store.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return stand.store.path


@pytest.fixture
def stand(tmp_path, written):
    """A journal of one's own, to change it."""
    shutil.copy(written, tmp_path / "journal.sqlite")
    return Stand(tmp_path, {})


def change(stand, statement):
    with stand.store.write() as connection:
        assert connection.execute(statement).rowcount


def test_what_the_engine_wrote_verifies(stand):
    assert stand.journal.run("run-1").exit_code == 5
    assert stand.journal.verify() == (stand.journal.verify()[0], None)
    assert stand.journal.integrity("run-1")[1] is None


def test_a_run_under_way_verifies(stand):
    writer = stand.begin(step("one"), run_id="run-3")
    assert stand.journal.verify()[1] is None

    writer.intend(1, 1)

    assert stand.journal.verify()[1] is None


RUN, STEP, ATTEMPT, APPROVAL = tables.run, tables.step, tables.attempt, tables.approval


@pytest.mark.parametrize(
    "statement",
    [
        update(RUN).values(state="done"),
        update(RUN).values(exit_code=0),
        update(RUN).values(reason="all is well"),
        update(RUN).values(requested_by="grace"),
        update(RUN).values(plan_digest="sha256:11"),
        update(RUN).values(parameters={"release": "another"}),
        update(RUN).values(snapshot="/elsewhere"),
        update(STEP).where(STEP.c.seq == 1).values(spec={"body": "- evil"}),
        update(STEP).where(STEP.c.seq == 4).values(spec={"body": "- evil"}),
        update(RUN).values(environment="production"),
        update(STEP).where(STEP.c.seq == 3).values(state="done"),
        update(STEP).where(STEP.c.seq == 1).values(outputs={"slot": "blue"}),
        update(STEP).where(STEP.c.seq == 3).values(outputs={"slot": "blue"}),
        update(ATTEMPT).where(ATTEMPT.c.seq == 3).values(outcome="ok"),
        update(ATTEMPT).where(ATTEMPT.c.seq == 3).values(reason="nobody knows"),
        delete(ATTEMPT).where(ATTEMPT.c.seq == 3),
        insert(ATTEMPT).values(run_id="run-1", seq=3, number=9, fence=1, intent_at="", intent_at_ns=1, outcome="ok"),
        update(APPROVAL).values(by="ada"),
        update(APPROVAL).values(decision="reject"),
        update(APPROVAL).values(signature="forged"),
        update(APPROVAL).values(expires_at="2099-01-01T00:00:00Z"),
        delete(APPROVAL),
        insert(APPROVAL).values(run_id="run-1", seq=2, n=2, decision="approve", by="eve", plan_digest="x", at=""),
        update(tables.result).values(message="!"),
        delete(tables.result),
        insert(tables.result).values(
            run_id="run-1", seq=3, attempt=1, n=1, host="h", task="t", outcome="ok", message="", duration_ms=0,
            ignored=False,
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_table_that_says_something_else_is_found(stand, statement):
    run = statement.table.c.id if statement.table is RUN else statement.table.c.run_id
    change(stand, statement if statement.is_insert else statement.where(run == "run-1"))

    assert "run-1" in str(stand.journal.integrity("run-1")[1])
    assert "run-1" in str(stand.journal.verify()[1])


def test_a_run_whose_rows_are_gone_from_the_record_does_not_verify(stand):
    """The chain before them is whole: nothing but the run itself tells that they are missing."""
    change(stand, delete(tables.record).where(tables.record.c.run_id == "run-2"))

    assert stand.journal.integrity("run-2") == (None, "run run-2 has no row in the record")
    assert stand.journal.verify()[1] == "run run-2 has no row in the record"


def test_an_empty_record_of_runs_that_are_there_does_not_verify(stand):
    change(stand, delete(tables.record))

    rows, wrong = stand.journal.verify()

    assert (rows, wrong) == (0, "run run-1 has no row in the record")


def test_a_run_without_its_end_in_the_record_does_not_verify(stand):
    with stand.store.write() as connection:
        last = connection.exec_driver_sql("SELECT max(n) FROM record").scalar_one()
    change(stand, delete(tables.record).where(tables.record.c.n == last))

    wrong = stand.journal.integrity("run-2")[1]

    assert "the state of run run-2 is not what was written: it is 'done', the record says 'running'" in str(wrong)


def test_a_run_that_is_gone_from_the_journal_does_not_verify(stand):
    with closing(sqlite3.connect(stand.store.path)) as connection, connection:
        connection.execute("DELETE FROM run WHERE id = 'run-2'")

    assert stand.journal.verify()[1] == "run run-2 is in the record and not in the journal"


def test_a_damaged_page_does_not_verify(stand):
    damage(stand.store.path, "result")

    rows, wrong = stand.journal.verify()

    assert rows
    assert "is damaged" in str(wrong)
    assert "is damaged" in str(stand.journal.integrity("run-1")[1])


@pytest.mark.parametrize(("column", "text"), [("body", "no JSON"), ("body", "[]"), ("body", '{"seq": 1}')])
def test_a_row_that_nobody_can_read_does_not_verify(stand, column, text):
    with closing(sqlite3.connect(stand.store.path)) as connection, connection:
        connection.execute(f"UPDATE record SET {column} = ? WHERE n = 3", (text,))

    assert stand.journal.verify()[1]


def test_a_whole_new_chain_of_odd_rows_does_not_verify(stand):
    """As long as the end is not signed, digests alone do not make a record."""
    with stand.store.write() as connection:
        connection.execute(delete(tables.record))
        chain.append(connection, run_id="run-1", at="", kind="nobody knows", body={})

    assert "no mcpops wrote" in str(stand.journal.verify()[1])


@pytest.mark.parametrize(
    "statement",
    [
        update(RUN).values(state="failed"),
        update(RUN).values(exit_code=1),
        update(RUN).values(requested_by="eve"),
        update(ATTEMPT).values(outcome="failed"),
        update(STEP).values(outputs={}),
        update(tables.result).values(host="other"),
    ],
    ids=str,
)
def test_a_rollback_that_was_taken_in_is_compared_too(tmp_path, statement):
    stand = Stand(tmp_path, {})
    absorb(stand.store, stand.clock, put(tmp_path, told(stand)))
    assert stand.journal.verify() == (1, None)

    change(stand, statement)

    assert stand.journal.verify()[1]


def test_a_rollback_that_an_earlier_mcpops_took_in_verifies(tmp_path):
    """Its row tells the results and the state only; what it does not tell is not compared."""
    stand = Stand(tmp_path, {})
    record = told(stand)
    absorb(stand.store, stand.clock, put(tmp_path, record))
    body = {"seq": 1, "attempt": 1, "results": digest(record["steps"][0]["results"]), "fence": 99, "state": "done"}
    with stand.store.write() as connection:
        connection.execute(delete(tables.record))
        chain.append(connection, run_id="roll-1", at="", kind="outcome", body=json.loads(json.dumps(body)))
    assert stand.journal.integrity("roll-1")[1] is None

    change(stand, update(RUN).values(state="failed"))

    assert stand.journal.integrity("roll-1")[1] is not None
