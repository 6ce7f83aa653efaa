"""Opening the journal: reading waits for nobody, and each trouble with the file has its own way out."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest
from sqlalchemy import event, select

from mcpops.core.errors import ExitCode, UsageError
from mcpops.journal import store as store_module
from mcpops.journal import tables
from mcpops.journal.queries import Journal
from mcpops.journal.sqlite import explain
from mcpops.journal.store import Store
from mcpops.journal.trouble import Damaged, Unavailable
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import RunState, StepState
from tests.unit.engine.stand import Stand, step


@pytest.fixture
def stand(tmp_path):
    return Stand(tmp_path, {})


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_MS", 100)
    monkeypatch.setattr(store_module, "HURRIED_MS", 100)


@pytest.fixture
def locked(stand, impatient):
    """A journal that another process is writing."""
    with closing(sqlite3.connect(stand.store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield Store(stand.store.path)


def test_reading_waits_for_no_writer(stand, locked):
    assert Journal(locked).runs() == []


def test_a_writer_that_waits_too_long_is_told_to_try_again_and_not_to_move_the_file(locked):
    with pytest.raises(Unavailable, match="another process") as caught, locked.write():
        pass

    assert caught.value.code is ExitCode.UNKNOWN
    assert "move" not in caught.value.hint


def test_who_is_in_a_hurry_waits_less(stand, monkeypatch):
    monkeypatch.setattr(store_module, "HURRIED_MS", 50)
    store = Store(stand.store.path)
    began_s = time.monotonic()

    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable), store.write(hurried=True):
            pass

    assert time.monotonic() - began_s < store_module.BUSY_TIMEOUT_MS / 1000 / 2


def limit(store, pragma):
    """Let each new connection begin with a pragma."""

    @event.listens_for(store.engine, "connect")
    def _on_connect(connection, _record):
        connection.execute(pragma)


def grow(store):
    """Write more than fits into the pages that are there."""
    with store.write() as connection:
        connection.execute(tables.run.update().values(parameters={"key": "x" * 100_000}))


@pytest.mark.parametrize(
    ("pragma", "said"),
    [("PRAGMA max_page_count = 1", "disk is full"), ("PRAGMA query_only = 1", "cannot be opened or")],
)
def test_a_write_that_the_disk_refuses_is_unknown_and_leaves_the_journal_whole(stand, pragma, said):
    writer = stand.begin(step("one"))
    limit(stand.store, pragma)

    with pytest.raises(Unavailable, match=said) as caught:
        grow(stand.store)

    assert caught.value.hint
    assert "move" not in caught.value.hint
    assert Journal(Store(stand.store.path)).run(writer.run_id).parameters == {"release": "r1"}


def test_a_run_whose_disk_fills_up_stops_takes_nothing_back_and_can_be_resumed(stand):
    writer = stand.begin(step("one", undo=True), step("two"))
    row = Result(host="h", task="t", outcome=Outcome.OK, message="x" * 100_000)

    def fill(_context):
        limit(stand.store, "PRAGMA max_page_count = 1")
        return AttemptReport(outcome=Outcome.OK, results=(row,))

    stand.script["one"] = fill

    with pytest.raises(Unavailable, match="disk is full"):
        stand.drive(writer)

    assert stand.acted() == ["one"]
    run = Journal(Store(stand.store.path)).run("run-1")
    assert (run.state, run.steps[0].state, len(run.steps)) == (RunState.RUNNING, StepState.RUNNING, 2)


def test_a_file_that_is_no_database_may_be_moved_away(tmp_path):
    path = tmp_path / "journal.sqlite"
    path.write_text("a letter to grandmother, which is longer than a hundred bytes, " * 20)

    with pytest.raises(UsageError, match="cannot be used as the journal") as caught:
        Store(path)

    assert "move the file away" in caught.value.hint


def damage(path, table):
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def test_a_damaged_page_is_told_as_damage(stand):
    stand.drive(stand.begin(step("one")))
    damage(stand.store.path, "run")

    with pytest.raises(Damaged) as caught:
        Journal(Store(stand.store.path)).runs()

    assert caught.value.code is ExitCode.FAILED
    assert "copy" in caught.value.hint


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(Unavailable) as caught:
        Store(tmp_path / "file" / "journal.sqlite")

    assert caught.value.hint


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Unavailable),
        (sqlite3.SQLITE_LOCKED, Unavailable),
        (sqlite3.SQLITE_PROTOCOL, Unavailable),
        (sqlite3.SQLITE_FULL, Unavailable),
        (sqlite3.SQLITE_IOERR_WRITE, Unavailable),
        (sqlite3.SQLITE_READONLY, Unavailable),
        (sqlite3.SQLITE_CANTOPEN, Unavailable),
        (sqlite3.SQLITE_CORRUPT, Damaged),
        (sqlite3.SQLITE_NOTADB, UsageError),
        (sqlite3.SQLITE_CONSTRAINT, type(None)),
        (sqlite3.SQLITE_ERROR, type(None)),
    ],
)
def test_each_code_of_sqlite_has_one_error_of_ours(tmp_path, code, kind):
    error = sqlite3.OperationalError("it says")
    error.sqlite_errorcode = code

    explained = explain(tmp_path, error)

    assert type(explained) is kind
    if explained:
        assert explained.detail == "it says"
        assert explained.hint


def test_an_empty_schema_is_of_no_version(stand):
    with stand.store.write() as connection:
        connection.execute(tables.schema.delete())
        assert connection.execute(select(tables.schema.c.version)).first() is None

    assert Journal(Store(stand.store.path)).runs() == [], "it is written again"
