"""A run that a rollback or another run overtook is not resumed, nor one of which nobody knows."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from mcpops.ansible.inventory import Inventory
from mcpops.cli import overtaken
from mcpops.cli.overtaken import acts_on_fronts, require_not_overtaken
from mcpops.cli.project import Environment
from mcpops.cli.record import Record
from mcpops.cli.wire import Workplace
from mcpops.core.clock import to_text
from mcpops.core.errors import Refused, Unknown
from mcpops.journal.absorb import absorb
from mcpops.model.settings import Settings
from mcpops.model.step import StepKind
from mcpops.remote.channel import Silent
from mcpops.remote.transport import TRANSPORTS
from mcpops.runbook.search import SearchPath
from tests.unit.deploy.fakes import FakeFront, FakeTransport, answer
from tests.unit.engine.stand import OK, Stand, step

VARIABLES = {"ansible_connection": "local", "hostside_path": "/x/hostside.pyz", "service_state_dir": "/x/state"}


@pytest.fixture
def stand(tmp_path):
    (tmp_path / ".mcpops/lab/rollbacks").mkdir(parents=True)
    return Stand(tmp_path / ".mcpops", {})


@pytest.fixture
def fronts(monkeypatch):
    made = {name: FakeFront(name) for name in ("a", "b")}
    monkeypatch.setitem(TRANSPORTS, "local", FakeTransport(made))
    return made


@pytest.fixture
def inventory(tmp_path):
    groups = {"all": ("a", "b", "db"), "fronts": ("a", "b"), "databases": ("db",), "empty": ()}
    return Inventory(tmp_path, groups, dict.fromkeys(groups["all"], VARIABLES))


@pytest.fixture
def place(tmp_path, stand, inventory):
    environment = Environment("lab", tmp_path, tmp_path / "inventories/lab", tmp_path / ".mcpops/lab")
    record = Record(tmp_path, Settings(name="shop"), stand.store, stand.journal, stand.clock)
    return Workplace(environment, record, SearchPath((tmp_path,)), inventory)


def stopped(stand, hosts="fronts", **settings):
    """A run that was killed in its second step."""
    writer = stand.begin(step("one", hosts=hosts), step("two", hosts=hosts, **settings))
    writer.intend(1, 1)
    writer.conclude(1, 1, OK)
    writer.intend(2, 1)
    return stand.journal.run("run-1")


def roll_back(place, stand, *, started_at, ended_at, environment="lab"):
    """Leave the record of a rollback, and take it in if it has an end."""
    row = {"state": "done", "started_at": to_text(started_at), "duration_s": 0.2, "outputs": {}, "results": []}
    told = {
        "id": "roll-1", "environment": environment, "runbook": "rollback", "state": "done", "plan_digest": "sha256:1",
        "parameters": {}, "requested_by": "ada", "started_at": to_text(started_at),
        "ended_at": to_text(ended_at) if ended_at else None, "exit_code": 0, "reason": "", "fence": 99, "steps": [row],
    }  # fmt: skip
    path = place.environment.state / "rollbacks/roll-1.json"
    path.write_text(json.dumps(told))
    absorb(stand.store, stand.clock, [path])
    return path


def test_nobody_acted_and_every_front_says_so(place, stand, inventory, fronts):
    require_not_overtaken(place, stopped(stand), inventory)

    assert [front.asked for front in fronts.values()] == [[["status"]], [["status"]]]


def test_a_rollback_on_record_is_enough(place, stand, inventory, fronts):
    """Its front need not answer: it may be the one that is down."""
    run = stopped(stand)
    later = stand.clock.now() + timedelta(seconds=1)
    roll_back(place, stand, started_at=later, ended_at=later).unlink()

    with pytest.raises(Refused, match="a rollback began since run run-1 stopped") as caught:
        require_not_overtaken(place, run, inventory)

    assert caught.value.detail == "run roll-1"
    assert "mcpops runs abandon run-1 --yes" in caught.value.hint
    assert [front.asked for front in fronts.values()] == [[], []]


def test_a_rollback_that_is_at_work_counts(place, stand, inventory, fronts):
    run = stopped(stand)
    roll_back(place, stand, started_at=stand.clock.now(), ended_at=None)

    with pytest.raises(Refused, match="a rollback began"):
        require_not_overtaken(place, run, inventory)


def test_a_rollback_before_its_last_try_or_elsewhere_does_not_count(place, stand, inventory, fronts):
    before = stand.clock.now()
    run = stopped(stand)
    roll_back(place, stand, started_at=before, ended_at=before)
    require_not_overtaken(place, run, inventory)

    roll_back(place, stand, started_at=before, ended_at=None)
    (place.environment.state / "rollbacks/note.json").write_text("no record")
    require_not_overtaken(place, run, inventory)

    (place.environment.state / "rollbacks/roll-1.json").unlink()
    later = stand.clock.now()
    roll_back(place, stand, started_at=later, ended_at=later, environment="other").unlink()
    require_not_overtaken(place, run, inventory)


def test_another_run_on_a_front_is_told(place, stand, inventory, fronts):
    run = stopped(stand)
    fronts["b"].fence = run.steps[1].attempts[-1].fence + 1

    with pytest.raises(Refused, match="b: another run acted there"):
        require_not_overtaken(place, run, inventory)


def silent_front():
    raise Silent("b", "b: no answer within 10 s", detail="asleep", hint="see whether x is up")


def test_a_front_that_is_silent_is_unknown_and_blocks(place, stand, inventory, fronts):
    fronts["b"].faults["status"] = silent_front

    with pytest.raises(Unknown, match="no answer from b") as caught:
        require_not_overtaken(place, stopped(stand), inventory)

    assert "asleep" in caught.value.detail
    assert "see whether x is up" in caught.value.detail
    assert "mcpops runs abandon run-1 --yes" in caught.value.hint


def test_a_front_that_is_down_is_unknown_and_blocks(place, stand, inventory, fronts):
    del fronts["a"]

    with pytest.raises(Unknown, match="no answer from a"):
        require_not_overtaken(place, stopped(stand), inventory)


def test_who_acted_is_told_before_who_is_silent(place, stand, inventory, fronts):
    run = stopped(stand)
    fronts["a"].fence, fronts["b"].faults["status"] = run.steps[1].attempts[-1].fence + 1, silent_front

    with pytest.raises(Refused):
        require_not_overtaken(place, run, inventory)


def test_a_front_gets_as_long_as_the_steps_give_it(place, stand, inventory, fronts, monkeypatch):
    waited = []
    monkeypatch.setattr(
        FakeFront, "call", lambda self, argv, deadline_s: waited.append(deadline_s) or answer(**self.status())
    )
    require_not_overtaken(place, stopped(stand), inventory)

    assert waited == [overtaken.ANSWER_S] * 2 == [10.0] * 2


@pytest.mark.parametrize(
    ("hosts", "settings", "acts"),
    [
        ("fronts", {}, True),
        ("a", {}, True),
        ("all", {}, True),
        ("databases:a", {}, True),
        ("databases", {}, False),
        ("db", {}, False),
        ("databases, db", {}, False),
        ("databases", {"direct": "cutover"}, True),
        ("fronts", {"kind": StepKind.GATE, "gate": "freeze"}, False),
        # More than names: who knows.
        ("*", {}, True),
        ("data*", {}, True),
        ("databases:!db", {}, True),
        ("{{ where }}", {}, True),
        ("localhost", {}, True),
    ],
)
def test_whether_a_run_acts_on_fronts(stand, inventory, hosts, settings, acts):
    stand.begin(step("one", hosts="databases"), step("two", hosts=hosts, **settings))

    assert acts_on_fronts(stand.journal.run("run-1"), inventory) is acts


def test_without_fronts_nothing_acts_on_them(stand, tmp_path):
    stand.begin(step("one", hosts="all"))
    alone = Inventory(tmp_path, {"all": ("h",)}, {"h": {}})

    assert acts_on_fronts(stand.journal.run("run-1"), alone) is False


def test_a_run_elsewhere_goes_on_whatever_the_fronts_do(place, stand, inventory, fronts):
    fronts.clear()

    require_not_overtaken(place, stopped(stand, hosts="databases"), inventory)
