"""The journal's contract: the same on SQLite and PostgreSQL, from the first schema on."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, delete, insert, select, text, update

from mcpops.core.errors import Broken, Busy, Fenced, UsageError
from mcpops.engine.execution import GateWaits
from mcpops.journal import chain, firings, migrations, outbox, postgres, prune, tables
from mcpops.journal.abandon import abandon
from mcpops.journal.absorb import absorb
from mcpops.journal.firings import AlreadyDecided, Firing
from mcpops.journal.queries import Journal
from mcpops.journal.queue import MOST_INTERRUPTIONS, runnable
from mcpops.journal.seal import KeyFile
from mcpops.journal.store import Store
from mcpops.journal.trouble import Damaged, Unavailable
from mcpops.journal.writes import RunWriter, queue
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import RunState, StepState
from mcpops.model.step import StepKind
from tests.people import decides
from tests.servers import create_database
from tests.unit.engine.stand import FAILED, OK, Stand, crash, request, step
from tests.unit.journal.test_absorb import put, told

FIRST_SCHEMA = Path(__file__).parents[1] / "unit" / "journal" / "schema_1.sql"


@pytest.fixture
def stand(where, tmp_path):
    stand = Stand(tmp_path, {}, where=where, sealer=KeyFile(tmp_path / "journal.key"))
    stand.opened = [stand.store]
    yield stand
    for store in stand.opened:
        store.close()


def again(stand: Stand, sealer=None) -> Store:
    """Another process's view of the same journal."""
    stand.opened.append(Store(stand.where, sealer or stand.store.sealer))
    return stand.opened[-1]


def trusted(stand):
    return {stand.store.sealer.key}


# -- lease and fence


def test_one_run_at_a_time_and_the_fence_only_rises(stand):
    first = stand.begin(step("one"))
    with pytest.raises(Busy) as caught:
        stand.begin(step("one"), run_id="run-2")
    assert "run-1" in caught.value.detail

    stand.drive(first)
    second = stand.begin(step("one"), run_id="run-2")

    assert second.lease.fence > first.lease.fence
    with pytest.raises(Fenced):
        first.renew()
    assert stand.journal.verify(trusted(stand))[1] is None


def test_of_many_that_begin_at_once_one_gets_the_lease(stand):
    barrier = threading.Barrier(4)

    def begin(n: int) -> bool:
        store = again(stand)
        barrier.wait()
        try:
            RunWriter.begin(store, stand.clock, f"race-{n}", request(step("one")))
        except Busy:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(begin, range(4))) == 1
    assert stand.journal.verify(trusted(stand))[1] is None


def test_a_write_of_who_lost_the_lease_writes_nothing(stand):
    stale = stand.begin(step("one"))
    crash(stand, stale)
    fresh = RunWriter.take_over(stand.store, stand.clock, "lab", "run-1")
    assert fresh.lease.dirty, "the earlier holder did not give the lease back"

    for write in (
        lambda: stale.intend(1, 1),
        lambda: stale.conclude(1, 1, OK),
        lambda: stale.set_step(1, StepState.DONE, why="no"),
        lambda: stale.end(RunState.DONE, 0, ""),
    ):
        with pytest.raises(Fenced):
            write()

    assert stand.journal.run("run-1").steps[0].state is StepState.PENDING
    fresh.hosts_taken()
    stand.drive(fresh)
    assert not stand.begin(step("one"), run_id="run-2").lease.dirty


def test_an_expired_lease_admits_the_same_run_only(stand):
    stand.begin(step("one"))
    stand.clock.at += timedelta(seconds=60)

    with pytest.raises(Busy, match="another run holds"):
        stand.begin(step("one"), run_id="run-2")
    RunWriter.take_over(stand.store, stand.clock, "lab", "run-1")


def test_what_was_given_up_in_the_middle_leaves_the_hosts_to_be_taken(stand):
    crash(stand, stand.begin(step("one")))
    abandon(stand.store, stand.clock, stand.journal.run("run-1"), by="ada", reason="enough")

    writer = stand.begin(step("one"), run_id="run-2")

    assert writer.lease.dirty
    stand.drive(writer)
    assert "barrier" in stand.log


def test_a_failed_undo_locks_the_environment(stand):
    stand.script |= {"one": FAILED, "undo one": FAILED}
    stand.drive(stand.begin(step("one", undo=True)))

    with pytest.raises(Broken):
        stand.begin(step("two"), run_id="run-2")
    assert stand.journal.locked_by("lab") == "run-1"


def test_a_reader_sees_one_state_and_waits_for_no_writer(stand):
    stand.begin(step("one"))
    with stand.store.read() as reader:
        before = reader.execute(select(tables.record.c.n)).all()
        with again(stand).write() as writer:
            chain.append(writer, run_id="run-1", at="", kind="step", body={"seq": 1, "state": "done", "why": ""})
        assert reader.execute(select(tables.record.c.n)).all() == before


def test_a_writer_in_a_hurry_gives_up_soon_and_says_who_waits(stand):
    other = again(stand)
    began_s = time.monotonic()
    with stand.store.write(), pytest.raises(Unavailable, match="in use"), other.write(hurried=True):
        pass
    assert time.monotonic() - began_s < 15


def test_what_fails_inside_a_transaction_writes_nothing(stand):
    with pytest.raises(ZeroDivisionError), stand.store.write() as connection:
        connection.execute(insert(tables.environment).values(name="x", fence=1 // 0))

    with stand.store.read() as connection:
        assert connection.execute(select(tables.environment)).all() == []


def test_texts_that_no_database_takes_are_made_harmless(stand):
    odd = Result(host="h", task="t\0", outcome=Outcome.OK, message="nul \0 and half \ud800 a pair")
    report = AttemptReport(outcome=Outcome.OK, results=(odd,), outputs={"x": ["\0"]})
    stand.script["one"] = report

    assert stand.drive(stand.begin(step("one"))).state is RunState.DONE
    run = stand.journal.run("run-1")
    assert run.steps[0].results[0].message == "nul \ufffd and half ? a pair"
    assert stand.journal.verify(trusted(stand))[1] is None


# -- the queue


def enqueue(stand, run_id, environment="lab", *steps):
    wanted = request(*(steps or (step("one"),)), environment=environment)
    queue(stand.store, stand.clock, run_id, wanted, b"files")


def take(stand, run_id, environment="lab"):
    return RunWriter.take_over(stand.store, stand.clock, environment, run_id)


def test_queued_runs_are_taken_in_their_order_one_an_environment(stand):
    for run_id, environment in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        enqueue(stand, run_id, environment)
    assert stand.journal.run("a1").state is RunState.QUEUED
    assert stand.journal.packed("a1") == b"files"
    assert runnable(stand.store, stand.clock) == ["a1", "b1"]

    writer = take(stand, "a1", "a")

    assert runnable(stand.store, stand.clock) == ["b1"], "the environment is held by a worker that lives"
    stand.drive(writer)
    assert runnable(stand.store, stand.clock) == ["a2", "b1"]
    assert stand.journal.verify(trusted(stand))[1] is None


def test_a_run_whose_worker_is_gone_comes_before_all_others(stand):
    enqueue(stand, "a1", "a")
    enqueue(stand, "a2", "a")
    crash(stand, take(stand, "a1", "a"))

    assert runnable(stand.store, stand.clock) == ["a1"]


def test_a_run_that_nobody_queued_is_never_taken(stand):
    crash(stand, stand.begin(step("one")))
    enqueue(stand, "later")

    assert runnable(stand.store, stand.clock) == []


def test_a_run_that_ends_its_workers_is_left_to_a_person(stand):
    enqueue(stand, "a1", "lab", step("one"))
    for number in range(1, MOST_INTERRUPTIONS + 1):
        assert runnable(stand.store, stand.clock) == ["a1"], number
        writer = take(stand, "a1")
        writer.intend(1, number)
        crash(stand, writer)
    take(stand, "a1").intend(1, MOST_INTERRUPTIONS + 1)
    crash(stand, replace_lease(stand))

    assert runnable(stand.store, stand.clock) == []


def replace_lease(stand):
    """The writer of whoever holds the lease now."""
    return RunWriter(stand.store, stand.clock, stand.journal.lease("lab"))


def test_a_queued_run_that_waited_goes_on_once_somebody_decided(stand):
    gate = step("gate", kind=StepKind.GATE, gate="approval")
    enqueue(stand, "run-1", "lab", gate)
    stand.script["prepare gate"] = GateWaits("approval")
    stand.drive(take(stand, "run-1"))
    assert runnable(stand.store, stand.clock) == []

    decides(stand, by="grace")

    assert runnable(stand.store, stand.clock) == ["run-1"]
    stand.drive(take(stand, "run-1"))  # it waits again: the approval did not let it go on
    assert runnable(stand.store, stand.clock) == [], "one decision, one try"


def test_a_locked_environment_has_nothing_to_do(stand):
    stand.script |= {"one": FAILED, "undo one": FAILED}
    stand.drive(stand.begin(step("one", undo=True)))
    enqueue(stand, "later")

    assert runnable(stand.store, stand.clock) == []


# -- schedules


def firing(stand, n=0, verdict=firings.FIRED):
    due = stand.clock.at.replace(hour=2, minute=n, second=0, microsecond=0)
    return Firing(environment="lab", schedule="night", due_at=due, verdict=verdict, run_id=f"night-{n}", why="")


def test_of_two_schedulers_one_fires(stand):
    barrier = threading.Barrier(2)

    def fire(_: int) -> bool:
        store = again(stand)
        barrier.wait()
        try:
            RunWriter.begin(store, stand.clock, "night-0", request(step("one"), schedule="night"), firing=firing(stand))
        except (AlreadyDecided, Busy):
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(fire, range(2))) == [False, True]
    assert firings.last_due(stand.store, "lab", "night") == firing(stand).due_at
    assert firings.standing(stand.store, "lab", "night").open_run_id == "night-0"


def test_a_time_that_found_the_environment_busy_is_not_decided(stand):
    stand.begin(step("one"))

    with pytest.raises(Busy):
        RunWriter.begin(stand.store, stand.clock, "night-0", request(step("one")), firing=firing(stand))

    assert firings.last_due(stand.store, "lab", "night") is None


def test_a_schedule_stands_as_its_runs_do(stand):
    assert firings.skip(stand.store, stand.clock, firing(stand, 1, firings.SKIPPED))
    assert not firings.skip(stand.store, stand.clock, firing(stand, 1, firings.SKIPPED))
    wanted = request(step("one"), schedule="night")
    stand.drive(RunWriter.begin(stand.store, stand.clock, "night-2", wanted, firing=firing(stand, 2)))

    standing = firings.standing(stand.store, "lab", "night")

    assert (standing.last_state, standing.open_run_id) == (RunState.DONE, None)
    assert standing.last_success_at is not None
    assert stand.journal.verify(trusted(stand))[1] is None


# -- notices


def test_a_notice_is_told_until_it_arrived_and_each_try_is_somebody_s(stand):
    stand.store.wanted = lambda environment, event, _schedule: (
        ["oncall"] if (environment, event) == ("lab", "failed") else []
    )
    stand.script["one"] = FAILED
    stand.drive(stand.begin(step("one")))

    notice = outbox.claim(stand.store, stand.clock)
    assert (notice.channel, notice.body["event"], notice.body["run"]) == ("oncall", "failed", "run-1")
    assert outbox.claim(again(stand), stand.clock) is None, "somebody tries it at this moment"
    outbox.failed(stand.store, stand.clock, notice, "503")
    late = outbox.undelivered(stand.store)
    assert (late.count, late.error) == (1, "503")
    assert outbox.claim(stand.store, stand.clock) is None
    stand.clock.at += timedelta(seconds=11)
    second = outbox.claim(stand.store, stand.clock)
    assert (second.id, second.tries) == (notice.id, 1)
    outbox.delivered(stand.store, stand.clock, second)
    outbox.delivered(stand.store, stand.clock, second)  # two may deliver at once: told once in the record

    stand.clock.at += timedelta(days=1)
    assert outbox.claim(stand.store, stand.clock) is None
    assert outbox.undelivered(stand.store) is None
    assert stand.journal.verify(trusted(stand))[1] is None


def test_a_deliverer_that_was_killed_in_the_middle_is_made_up_for(stand):
    stand.store.wanted = lambda *_: ["oncall"]
    stand.drive(stand.begin(step("one")))
    first = outbox.claim(stand.store, stand.clock)

    stand.clock.at += timedelta(seconds=61)

    assert outbox.claim(stand.store, stand.clock).id == first.id


# -- letting go


def test_a_rollback_that_was_let_go_is_not_taken_in_again(stand, tmp_path):
    files = put(tmp_path, told(stand))
    absorb(stand.store, stand.clock, files)
    prune.prune(stand.store, stand.clock, ["roll-1"], by="ada")

    assert absorb(stand.store, stand.clock, files) == []
    assert stand.journal.verify(trusted(stand))[1] is None


def test_a_heartbeat_does_not_keep_the_seal_of_a_driver_that_has_not_written_it(stand):
    stand.drive(stand.begin(step("one")))
    sealer = stand.store.sealer
    before = sealer.seen()
    sealer.expect({"number": 99, "n": 99, "sha256": "sha256:0"})
    with ThreadPoolExecutor(1) as pool:
        pool.submit(sealer.remember).result()

    assert sealer.seen() == before
    sealer.expect(None)


def test_what_is_let_go_leaves_a_chain_that_verifies(stand, tmp_path):
    stand.drive(stand.begin(step("one")))
    absorb(stand.store, stand.clock, put(tmp_path, told(stand)))
    old = stand.clock.now() + timedelta(seconds=1)
    stand.clock.at += timedelta(days=30)
    stand.drive(stand.begin(step("one"), run_id="run-2"))

    runs = prune.prunable(stand.store, old)
    prune.prune(stand.store, stand.clock, runs, by="ada")

    assert sorted(runs) == ["roll-1", "run-1"]
    assert [run.id for run in stand.journal.runs()] == ["run-2"]
    assert stand.journal.verify(trusted(stand))[1] is None
    with stand.store.write() as connection:
        connection.execute(delete(tables.result).where(tables.result.c.run_id == "run-2"))
    assert stand.journal.verify(trusted(stand))[1], "what is still there is compared as before"


# -- schemas


def load_first(where) -> None:
    """Make a journal of the first schema, as the mcpops of that time wrote it."""
    script = FIRST_SCHEMA.read_text(encoding="utf-8")
    if isinstance(where, Path):
        with closing(sqlite3.connect(where)) as connection:
            connection.executescript(script)
        return
    statements = script.replace("BEGIN TRANSACTION;", "").replace("COMMIT;", "")
    # Tables of SQLite in PostgreSQL's words, in an order that its foreign keys allow.
    parts = [part.strip() for part in statements.split(";\n") if part.strip()]
    created = {part.split()[2].strip('"'): part for part in parts if part.startswith("CREATE TABLE")}
    order = ["schema", "environment", "run", "step", "attempt", "result", "approval", "record"]
    rows = [part for part in parts if part.startswith("INSERT")]
    with psycopg.connect(where) as connection:
        for name in order:
            connection.execute(created[name].replace("schema (", '"schema" (', 1))
        for name in order:
            for row in rows:
                if row.startswith(f'INSERT INTO "{name}"'):
                    connection.execute(false_and_true(name, row))
        for part in parts:
            if part.startswith("CREATE INDEX"):
                connection.execute(part)


def false_and_true(name: str, row: str) -> str:
    return f"{row[:-2]}{'true' if row[-2] == '1' else 'false'})" if name == "result" else row


def test_a_journal_of_the_first_schema_is_brought_up_to_date_and_says_the_same(where, tmp_path):
    load_first(where)
    stand = Stand(tmp_path, {}, where=where, sealer=KeyFile(tmp_path / "journal.key"))

    states = {run.id: run.state.value for run in stand.journal.runs()}
    assert states == {
        "roll-1": "done", "run-5": "running", "run-4": "broken", "run-3": "abandoned", "run-2": "done",
        "run-1": "rolled_back",
    }  # fmt: skip
    assert stand.journal.verify(trusted(stand)) == (34, None)
    run = stand.journal.run("run-1")
    assert (run.queued, run.schedule, run.steps[0].outputs) == (False, None, {"slot": "green", "n": 1.5})

    stand.clock.at += timedelta(days=1)
    stand.drive(RunWriter.take_over(stand.store, stand.clock, "lab", "run-5"))  # killed by the old one, ended by this
    assert stand.journal.run("run-5").state is RunState.DONE
    assert stand.journal.verify(trusted(stand))[1] is None
    stand.store.close()


def test_a_migrated_journal_has_the_tables_of_a_new_one(where, tmp_path):
    load_first(where)
    store = Store(where)

    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    store.close()


def test_a_migration_that_is_interrupted_changes_nothing(where, tmp_path, monkeypatch):
    load_first(where)
    monkeypatch.setattr(tables, "SCHEMA_VERSION", 3)

    def breaks(_op):
        raise RuntimeError("the power went")

    monkeypatch.setitem(migrations._STEPS, 3, breaks)
    with pytest.raises(RuntimeError):
        Store(where)
    monkeypatch.undo()

    store = Store(where)
    assert Journal(store).run("run-2").state is RunState.DONE
    store.close()


def test_two_that_migrate_at_once_do_it_once(where):
    load_first(where)
    with ThreadPoolExecutor(2) as pool:
        for store in pool.map(lambda _: Store(where), range(2)):
            assert len(Journal(store).runs()) == 6
            store.close()


def test_a_journal_of_a_newer_mcpops_is_left_alone(stand):
    with stand.store.write() as connection:
        connection.execute(update(tables.schema).values(version=99))

    with pytest.raises(UsageError, match="has schema 99"):
        again(stand)


# -- seals


@pytest.fixture
def sealed(stand):
    for n in range(1, 4):
        stand.drive(stand.begin(step("one"), run_id=f"run-{n}"))
    assert stand.journal.verify(trusted(stand))[1] is None
    return stand


SEAL, RECORD = tables.seal.c, tables.record.c


def cut_the_end(connection):
    """The last run with all that tells of it, so that the rest hangs together."""
    first = connection.execute(select(RECORD.n).where(RECORD.run_id == "run-3").order_by(RECORD.n).limit(1)).scalar()
    connection.execute(delete(tables.seal).where(SEAL.n >= first))
    connection.execute(delete(tables.record).where(RECORD.n >= first))
    for table in (tables.result, tables.attempt, tables.step):
        connection.execute(delete(table).where(table.c.run_id == "run-3"))
    connection.execute(delete(tables.run).where(tables.run.c.id == "run-3"))


FORGERIES = {
    "a seal is changed": (lambda c: c.execute(update(tables.seal).where(SEAL.number == 2).values(at="x")), "seal 2"),
    "a signature is changed": (
        lambda c: c.execute(update(tables.seal).where(SEAL.number == 2).values(signature="AAAA")),
        "seal 2",
    ),
    "the first seal is gone": (lambda c: c.execute(delete(tables.seal).where(SEAL.number == 1)), "seal 1"),
    "a seal in the middle is gone": (lambda c: c.execute(delete(tables.seal).where(SEAL.number == 2)), "seal 2"),
    "the last seal is gone": (lambda c: c.execute(delete(tables.seal).where(SEAL.number == 3)), "the seal of row"),
    "all seals are gone": (lambda c: c.execute(delete(tables.seal)), "the seal of row"),
    "the end is cut off with its seal": (cut_the_end, "seal 3, which this machine wrote"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_record_whose_seals_do_not_fit_is_found(sealed, forgery):
    forge, said = FORGERIES[forgery]
    with sealed.store.write() as connection:
        forge(connection)

    wrong = sealed.journal.verify(trusted(sealed), [sealed.store.sealer.seen()])[1]

    assert said in str(wrong)


def test_a_seal_by_another_key_is_found(sealed, tmp_path):
    own = trusted(sealed)
    other = again(sealed, KeyFile(tmp_path / "other.key"))
    stand = replace_store(sealed, other)
    stand.drive(stand.begin(step("one"), run_id="run-4"))

    assert "none of those that may sign" in str(sealed.journal.verify(own)[1])
    assert sealed.journal.verify({*own, other.sealer.key})[1] is None


def replace_store(stand, store):
    stand.store, stand.journal = store, Journal(store)
    return stand


def test_a_history_that_was_written_anew_is_not_sealed_any_more(sealed):
    """Whoever writes the database but has no key waits for the next run to sign a false head: it does not."""
    with sealed.store.write() as connection:
        cut_the_end(connection)

    writer = sealed.begin(step("one"), run_id="run-4")
    with pytest.raises(Damaged, match="not what this machine sealed"):
        sealed.drive(writer)


def test_the_key_and_what_it_sealed_last_are_private(sealed, tmp_path):
    for path in tmp_path.glob("journal.key*"):
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert len(list(tmp_path.glob("journal.key*"))) == 2


# -- trouble


def test_a_server_that_is_not_there_is_unavailable():
    with pytest.raises(Unavailable, match="cannot be reached"):
        Store("postgresql://mcpops@127.0.0.1:1/mcpops")


@pytest.mark.parametrize("url", ["postgresql://ada:hunter2@h/db", "postgresql://ada@h/db?password=hunter2"])
def test_a_password_in_the_url_is_refused_and_not_shown(url):
    with pytest.raises(UsageError, match="holds a password") as caught:
        Store(url)
    assert "hunter2" not in str(vars(caught.value))


def test_a_database_that_is_not_there_is_told(postgres_url):
    with pytest.raises(Unavailable, match="is not there"):
        Store(f"{postgres_url}-nowhere")


def write_slowly(store):
    """As a process that is stopped with the lock in its hand."""
    with store.write() as connection:
        connection.execute(insert(tables.environment).values(name="x", fence=1))
        time.sleep(1.0)
        connection.execute(insert(tables.environment).values(name="y", fence=1))


def test_a_writer_that_stands_still_is_put_out_by_the_server(postgres_url, monkeypatch):
    monkeypatch.setattr(postgres, "FROZEN_MS", 300)
    store = Store(create_database(postgres_url, "frozen"))
    with pytest.raises(Unavailable):
        write_slowly(store)

    with store.read() as connection:
        assert connection.execute(select(tables.environment)).all() == []
    store.close()


def test_the_server_forgets_no_intent_when_it_is_killed(postgres_url):
    """What a commit means there: the settings that mcpops relies on are in force."""
    engine = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        assert connection.execute(text("SHOW fsync")).scalar() == "on"
    engine.dispose()
    store = Store(postgres_url)
    with store.read() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
    store.close()
