"""Each kind of row, altered, removed, put elsewhere or inserted: `journal verify` names it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import delete, func, insert, select, update

from mcpops.engine.execution import GateWaits
from mcpops.journal import chain, firings, integrity, ledger, outbox, prune, tables
from mcpops.journal.abandon import abandon
from mcpops.journal.absorb import absorb
from mcpops.journal.firings import Firing
from mcpops.journal.seal import KeyFile
from mcpops.journal.writes import RunWriter, queue
from mcpops.model.run import StepState
from mcpops.model.step import StepKind
from tests.people import decides
from tests.unit.engine.stand import Stand, crash, request, step
from tests.unit.journal.test_absorb import put, told

KINDS = sorted({*integrity._KINDS, *ledger.KINDS})
RECORD = tables.record.c


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A journal with every kind of row in it."""
    home = tmp_path_factory.mktemp("written")
    stand = Stand(home, {"prepare gate": GateWaits("approval")}, sealer=KeyFile(home / "journal.key"))
    stand.store.wanted = lambda *_: ["oncall"]
    stand.drive(stand.begin(step("one"), run_id="old"))
    prune.prune(stand.store, stand.clock, ["old"], by="ada")
    stand.drive(stand.begin(step("one"), step("gate", kind=StepKind.GATE, gate="approval"), step("two")))
    decides(stand, by="grace")
    writer = RunWriter.take_over(stand.store, stand.clock, "lab", "run-1")
    writer.set_step(2, StepState.WAITING, why="again")
    crash(stand, writer)
    abandon(stand.store, stand.clock, stand.journal.run("run-1"), by="ada", reason="enough")
    absorb(stand.store, stand.clock, put(home, told(stand)))
    due = stand.clock.at + timedelta(hours=1)
    times = {"environment": "lab", "schedule": "night", "due_at": due, "run_id": "night-1"}
    wanted = request(step("one"), schedule="night")
    stand.drive(
        RunWriter.begin(stand.store, stand.clock, "night-1", wanted, firing=Firing(verdict=firings.FIRED, **times))
    )
    times |= {"due_at": due + timedelta(hours=1), "run_id": "night-2"}
    firings.skip(stand.store, stand.clock, Firing(verdict=firings.SKIPPED, why="late", **times))
    queue(stand.store, stand.clock, "queued", request(step("one"), environment="other"), b"")
    notice = outbox.claim(stand.store, stand.clock)
    outbox.delivered(stand.store, stand.clock, notice)
    with closing(sqlite3.connect(stand.store.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return home


@pytest.fixture
def stand(tmp_path, written):
    for path in written.glob("journal.*"):
        shutil.copy(path, tmp_path / path.name)
    return Stand(tmp_path, {}, sealer=KeyFile(tmp_path / "journal.key"))


def verdict(stand) -> str | None:
    sealer = stand.store.sealer
    return stand.journal.verify({sealer.key}, [sealer.seen()])[1]


def number(connection, kind: str) -> int:
    return connection.execute(select(func.max(RECORD.n)).where(RECORD.kind == kind)).scalar_one()


def test_the_journal_has_every_kind_of_row_and_verifies(stand):
    with stand.store.read() as connection:
        assert sorted(connection.execute(select(RECORD.kind).distinct()).scalars()) == KINDS
    assert verdict(stand) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", ["body", "at", "run_id", "kind", "previous", "sha256"])
def test_a_row_that_was_altered_is_named(stand, kind, column):
    with stand.store.write() as connection:
        n = number(connection, kind)
        value = {"x": 1} if column == "body" else "sha256:0" if column in ("previous", "sha256") else "altered"
        connection.execute(update(tables.record).where(RECORD.n == n).values({column: value}))

    said = str(verdict(stand))
    assert f"row {n}" in said or f"row {n + 1}" in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_was_removed_is_named(stand, kind):
    with closing(sqlite3.connect(stand.store.path)) as connection, connection:
        n = connection.execute("SELECT max(n) FROM record WHERE kind = ?", (kind,)).fetchone()[0]
        last = connection.execute("SELECT max(n) FROM record").fetchone()[0]
        connection.execute("DELETE FROM record WHERE n = ?", (n,))

    assert verdict(stand) == f"row {n} is missing" if n < last else verdict(stand)


@pytest.mark.parametrize("kind", KINDS)
def test_two_rows_that_changed_places_are_named(stand, kind):
    with closing(sqlite3.connect(stand.store.path)) as connection, connection:
        n = connection.execute("SELECT max(n) FROM record WHERE kind = ?", (kind,)).fetchone()[0]
        other = n - 1 if n > 1 else n + 1
        for source, target in ((n, -1), (other, n), (-1, other)):
            connection.execute("UPDATE record SET n = ? WHERE n = ?", (target, source))

    assert f"row {min(n, other)}" in str(verdict(stand))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_was_inserted_with_the_whole_chain_made_anew_is_found(stand, kind):
    """Whoever knows how digests are made can make a chain; not seals, and not what the tables say."""
    with stand.store.write() as connection:
        rows = connection.execute(select(tables.record).order_by(RECORD.n)).mappings().all()
        copy = dict(next(row for row in rows if row["kind"] == kind))
        connection.execute(delete(tables.seal))
        connection.execute(delete(tables.record))
        for row in [copy, *rows]:
            chain.append(connection, run_id=row["run_id"], at=row["at"], kind=row["kind"], body=row["body"])

    assert verdict(stand)


TABLES = (
    tables.run,
    tables.step,
    tables.attempt,
    tables.result,
    tables.approval,
    tables.firing,
    tables.notice,
    tables.seal,
)
# What the chain does not hold: how it was asked for and where, which the plan's digest covers, and times of its own.
CHANGES = {
    tables.run: {"state": "failed"},
    tables.step: {"state": "failed"},
    tables.attempt: {"reason": "altered"},
    tables.result: {"message": "altered"},
    tables.approval: {"by": "eve"},
    tables.firing: {"why": "altered"},
    tables.notice: {"body": {"event": "done"}},
    tables.seal: {"sha256": "sha256:0"},
}


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_a_table_whose_rows_were_altered_is_found(stand, table):
    with stand.store.write() as connection:
        assert connection.execute(update(table).values(CHANGES[table])).rowcount

    assert verdict(stand)


def test_ways_that_were_altered_are_found(stand):
    with stand.store.write() as connection:
        assert connection.execute(update(tables.attempt).values(ways={"warm": 1000, "ssh": {}})).rowcount

    assert "the ways of step" in verdict(stand)


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_a_table_whose_rows_were_removed_is_found(stand, table):
    with closing(sqlite3.connect(stand.store.path)) as connection, connection:
        assert connection.execute(f'DELETE FROM "{table.name}"').rowcount

    assert verdict(stand)


@pytest.mark.parametrize("table", [tables.firing, tables.notice], ids=str)
def test_a_row_that_was_inserted_beside_the_chain_is_found(stand, table):
    with stand.store.write() as connection:
        row = dict(connection.execute(select(table).limit(1)).mappings().one())
        key = "id" if "id" in row else "due_at"
        connection.execute(insert(table).values({**row, key: "another"}))

    assert "another" in str(verdict(stand))


def test_a_run_that_was_let_go_and_is_back_is_found(stand):
    with stand.store.write() as connection:
        row = dict(connection.execute(select(tables.run).where(tables.run.c.id == "queued")).mappings().one())
        connection.execute(insert(tables.run).values({**row, "id": "old"}))

    assert verdict(stand) == "run old is in the journal, and the record says that it was let go"
