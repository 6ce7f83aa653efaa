"""A run that nobody drives any more is told as such wherever a person looks for it."""

from __future__ import annotations

import io
import json
import sys
import threading

import pytest
from sqlalchemy import update

from mcpops.cli import app
from mcpops.cli.show import interrupted
from mcpops.core.errors import ExitCode
from mcpops.journal import tables
from mcpops.journal.lease import this_holder
from mcpops.model.run import RunState
from tests.unit.engine.stand import OK, Stand, step

NEVER, LONG_AGO = "9999-12-31T00:00:00.000Z", "2001-01-01T00:00:00.000Z"
HOST, BOOT, PID, STARTED = this_holder().rsplit(":", 3)


@pytest.fixture
def stand(tmp_path):
    (tmp_path / "inventories/lab").mkdir(parents=True)
    (tmp_path / ".mcpops").mkdir()
    return Stand(tmp_path / ".mcpops", {})


def hold(stand, *, pid=PID, started=STARTED, until=NEVER):
    """Say who holds the lease, and until when."""
    values = {"holder": f"{HOST}:{BOOT}:{pid}:{started}", "until": until}
    with stand.store.write() as connection:
        connection.execute(update(tables.environment).values(**values))


@pytest.fixture
def killed(stand):
    """A run in its second step whose process is gone."""
    writer = stand.begin(step("one"), step("two"))
    writer.intend(1, 1)
    writer.conclude(1, 1, OK)
    writer.intend(2, 1)
    hold(stand, started="1")
    return writer


def say(stand, capsys, *argv):
    code = app.main([*argv, "-C", str(stand.store.path.parents[1])])
    return code, capsys.readouterr().out


def test_watching_a_run_that_was_killed_ends_at_once_and_says_what_to_do(stand, killed, capsys):
    code, out = say(stand, capsys, "runs", "watch", "run-1")

    assert code == ExitCode.UNKNOWN
    assert out.splitlines()[-1].startswith("interrupted")
    assert "`mcpops runs resume run-1`" in out


def test_watching_says_it_in_json_too(stand, killed, capsys):
    code, out = say(stand, capsys, "runs", "watch", "run-1", "--json")

    last = json.loads(out.splitlines()[-1])
    assert (code, last["state"], last["interrupted"]) == (3, "running", True)


def test_the_list_says_it(stand, killed, capsys):
    assert "interrupted" in say(stand, capsys, "runs", "list")[1]
    assert "`mcpops runs resume run-1`" in say(stand, capsys, "runs", "list")[1]
    [row] = json.loads(say(stand, capsys, "runs", "list", "--json")[1])["runs"]
    assert (row["state"], row["interrupted"]) == ("running", True)


def test_the_story_and_its_json_say_it(stand, killed, capsys):
    assert say(stand, capsys, "runs", "show", "run-1")[1].splitlines()[1] == "interrupted"
    shown = json.loads(say(stand, capsys, "runs", "show", "run-1", "--json")[1])
    assert (shown["state"], shown["interrupted"]) == ("running", True)


def test_a_run_that_is_driven_is_not_interrupted(stand, killed, capsys):
    hold(stand)

    assert interrupted(stand.journal, stand.journal.run("run-1")) is False
    code, out = say(stand, capsys, "runs", "watch", "run-1", "--timeout", "0.01")
    assert code == ExitCode.UNKNOWN
    assert "`mcpops runs watch run-1`" in out


def test_a_lease_that_ran_out_drives_nothing(stand, killed):
    hold(stand, until=LONG_AGO)

    assert interrupted(stand.journal, stand.journal.run("run-1")) is True


def test_a_run_that_ends_while_one_looks_is_not_interrupted(stand, killed):
    seen = stand.journal.run("run-1")
    hold(stand)
    killed.conclude(2, 1, OK)
    killed.end(RunState.DONE, ExitCode.OK, "")

    assert (seen.state, interrupted(stand.journal, seen)) == (RunState.RUNNING, False)


def test_a_run_that_waited_before_is_not_told_by_that_exit_code(stand, killed, capsys):
    killed.end(RunState.WAITING, ExitCode.WAITING, "approval")
    again = type(killed).take_over(stand.store, stand.clock, "lab", "run-1")
    hold(stand, started="1")

    assert stand.journal.run(again.run_id).exit_code is None
    assert say(stand, capsys, "runs", "watch", "run-1")[0] == ExitCode.UNKNOWN


def test_watching_ends_when_nobody_reads_it(stand, killed, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    hold(stand)
    monkeypatch.setattr(sys, "stdout", Gone())
    codes = []
    argv = ["runs", "watch", "run-1", "-C", str(stand.store.path.parents[1])]
    watching = threading.Thread(target=lambda: codes.append(app.main(argv)), daemon=True)
    watching.start()
    watching.join(20)

    assert codes == [ExitCode.UNKNOWN], "it did not end within 20 s"
