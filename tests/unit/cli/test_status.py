"""What `mcpops status` says beside the fronts: who acts, and whether the environment is locked."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from mcpops.cli import app
from mcpops.cli.project import Environment
from mcpops.cli.status import _certificate, _certificates, _journal, _text
from mcpops.core.errors import ExitCode
from mcpops.core.tree import tree_digest
from mcpops.remote.targets import save_targets
from mcpops.remote.transport import TRANSPORTS
from mcpops.tls.served import Served
from tests.unit.deploy.fakes import FakeFront, FakeTransport
from tests.unit.engine.stand import FAILED, Stand, step

SERVES = {
    "environment": "lab",
    "active": {"slot": None, "release": None, "since": None},
    "slots": {},
    "fronts": {},
    "certificates": [],
}


def test_a_locked_environment_is_told_and_by_which_run(tmp_path):
    environment = Environment("lab", tmp_path, tmp_path / "inventories/lab", tmp_path / ".mcpops/lab")
    (tmp_path / ".mcpops").mkdir()
    stand = Stand(tmp_path / ".mcpops", {"one": FAILED})
    stand.drive(stand.begin(step("one")))
    assert _journal(environment)["locked_by"] is None

    stand.script["undo two"] = stand.script["two"] = FAILED
    stand.drive(stand.begin(step("two", undo=True), run_id="run-2"))

    told = _journal(environment)
    assert (told["locked_by"], told["lease"]) == ("run-2", None)
    assert "LOCKED: the undo of run run-2 failed" in _text({**SERVES, "agreed": True, **told})


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one front that serves, and a journal with a run."""
    front = FakeFront("a")
    monkeypatch.setitem(TRANSPORTS, "local", FakeTransport({"a": front}))
    (tmp_path / "inventories/lab").mkdir(parents=True)
    (tmp_path / "inventories/lab/hosts.yml").write_text("all: {}\n")
    save_targets(tmp_path / ".mcpops/lab/targets.json", [front.target], tree_digest(tmp_path / "inventories/lab"))
    stand = Stand(tmp_path / ".mcpops", {})
    stand.drive(stand.begin(step("one")))
    return tmp_path


def garbage(journal):
    for path in journal.parent.glob("journal.sqlite-*"):
        path.unlink()
    journal.write_bytes(b"no database, and long enough to be looked at" * 100)


def holes(journal):
    """The first page is good: it opens, and what it tells does not fit."""
    for path in journal.parent.glob("journal.sqlite-*"):
        path.unlink()
    whole = journal.read_bytes()
    journal.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))


def another_schema(journal):
    import sqlite3  # noqa: PLC0415

    with sqlite3.connect(journal) as connection:
        connection.execute("UPDATE schema SET version = 99")
    connection.close()


def no_database(journal):
    for path in journal.parent.glob("journal.sqlite*"):
        path.unlink()
    journal.mkdir()


def status(project, capsys, *argv):
    code = app.main(["status", "-C", str(project), *argv])
    return code, capsys.readouterr().out


def test_a_whole_journal_has_no_error(project, capsys):
    code, out = status(project, capsys, "--json")

    told = json.loads(out)
    assert (code, told["journal_error"]) == (0, None)
    assert [run["interrupted"] for run in told["runs"]] == [False]


@pytest.mark.parametrize("damage", [garbage, holes, another_schema, no_database])
def test_a_damaged_journal_does_not_hide_what_serves(project, capsys, damage):
    damage(project / ".mcpops/journal.sqlite")

    code, out = status(project, capsys, "--json")
    told = json.loads(out)
    assert code == ExitCode.UNKNOWN
    assert (told["fronts"]["a"]["active"], told["agreed"]) == ("blue", True)
    assert told["journal_error"]
    assert "\n" not in told["journal_error"]
    assert "[SQL" not in told["journal_error"]

    code, out = status(project, capsys)
    assert code == ExitCode.UNKNOWN
    assert "a: blue generation 1" in out
    assert "THE JOURNAL CANNOT BE READ" in out


def test_a_certificate_that_no_client_accepts_is_told(tmp_path):
    now, url = datetime(2026, 11, 26, tzinfo=UTC), "https://192.0.2.1:443"
    good = _certificate("a", Served("good.example", url, True, now + timedelta(days=61, hours=1)), now)
    bad = _certificate("b", Served("bad.example", url, False, error="certificate has expired"), now)
    silent = _certificate("c", Served("far.example", url, None, error="no route to host"), now)
    assert (good["days_left"], good["served"], good["error"]) == (61, True, None)
    assert (bad["days_left"], bad["served"], bad["error"]) == (None, False, "certificate has expired")
    assert (silent["days_left"], silent["served"]) == (None, None)

    environment = Environment("lab", tmp_path, tmp_path / "inventories/lab", tmp_path / ".mcpops/lab")
    text = _text({**SERVES, "agreed": True, **_journal(environment), "certificates": [good, bad, silent]})
    assert f"a: certificate of good.example at {url}: 61 days left" in text
    assert f"b: certificate of bad.example at {url}: NO CLIENT ACCEPTS IT: certificate has expired" in text
    assert f"c: certificate of far.example at {url}: not seen from here: no route to host" in text


def test_the_certificate_of_each_front_is_looked_at():
    """Each front by its own URL; one that cannot be read hides no other."""
    fronts = {host: {"url": f"https://127.0.0.1:9/{host}", "server_name": "x", "ca_pem": None} for host in "ab"}
    fronts["c"] = {"url": "https://[::1", "server_name": "x"}
    fleet = SimpleNamespace(
        greetings={host: SimpleNamespace(output={"front": front}) for host, front in fronts.items()}
    )
    fleet.greetings["d"] = SimpleNamespace(output={})

    told = _certificates(fleet)
    assert [(row["front"], row["url"][-1], row["served"]) for row in told] == [
        ("a", "a", None), ("b", "b", None), ("c", "1", None),
    ]  # fmt: skip
    assert all(row["error"] for row in told)


def test_a_file_in_the_place_of_the_state_is_told(tmp_path):
    (tmp_path / ".mcpops").write_text("")
    environment = Environment("lab", tmp_path, tmp_path / "inventories/lab", tmp_path / ".mcpops/lab")

    assert "cannot be made" in _journal(environment)["journal_error"]


def test_a_project_that_has_never_run_anything_has_no_journal_and_gets_none(tmp_path):
    environment = Environment("lab", tmp_path, tmp_path / "inventories/lab", tmp_path / ".mcpops/lab")

    assert _journal(environment)["journal_error"] is None
    assert not (tmp_path / ".mcpops").exists()
