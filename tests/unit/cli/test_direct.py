"""Direct steps as the engine sees them: what they are told, what they cannot be told, and how long they may take."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from mcpops.ansible.inventory import Inventory
from mcpops.ansible.vault import Vault
from mcpops.cli.direct import (
    BAKE_S,
    DEFAULT_BAKE_S,
    OPEN_S,
    DirectExecution,
    TimeLimit,
    bake_s,
    direct_executors,
)
from mcpops.cli.project import Environment
from mcpops.cli.wire import NAMES, Record, Workplace
from mcpops.core.clock import SystemClock
from mcpops.core.errors import UsageError
from mcpops.deploy import direct
from mcpops.deploy.direct import DirectContext
from mcpops.engine.drive import Listener
from mcpops.model.outcome import Outcome
from mcpops.model.settings import Settings
from tests.unit.deploy.fakes import FakeFront, FakeTransport
from tests.unit.engine.stand import Stand, step

ROOT = Path(__file__).resolve().parents[3]


def context(step_settings=None, **variables):
    return SimpleNamespace(
        step=step("bake", direct="bake", **(step_settings or {})),
        run=SimpleNamespace(id="run-1"),
        fence=7,
        variables={"slot": "green", **variables},
        cancel=threading.Event(),
        on_result=lambda result: None,
    )


def told(given, hosts=()) -> DirectContext:
    """What the action of a step is told."""
    return direct_executors(lambda: (), hosts)["bake"](given)._action.context


def test_the_default_is_the_role_s():
    defaults = yaml.safe_load((ROOT / "roles/blue_green/defaults/main.yml").read_text())

    assert defaults[BAKE_S] == DEFAULT_BAKE_S


@pytest.mark.parametrize(
    ("parameters", "hosts", "expected_s"),
    [
        ({}, [], 60),
        ({}, [{}], 60),
        ({}, [{BAKE_S: 3}], 3),
        ({}, [{BAKE_S: 600}, {BAKE_S: 600}], 600),
        ({}, [{BAKE_S: 3}, {BAKE_S: 90}], 90),
        ({}, [{BAKE_S: 3}, {}], 60),
        ({}, [{BAKE_S: "2.5"}], 2.5),
        ({BAKE_S: 1}, [{BAKE_S: 600}], 1),
        ({BAKE_S: "5"}, [{BAKE_S: "later"}], 5),
        ({BAKE_S: 0}, [{BAKE_S: 600}], 0),
    ],
)
def test_the_bake_takes_what_the_run_says_else_the_inventory_else_the_default(parameters, hosts, expected_s):
    assert bake_s(parameters, hosts) == expected_s
    assert told(context(**parameters), hosts).guard_s == expected_s


@pytest.mark.parametrize("value", ["abc", "", None, True, -1, "nan", "inf", [], {"s": 3}])
@pytest.mark.parametrize("where", ["the run's parameters", "the inventory"])
def test_a_bake_that_is_no_time_is_a_usage_error(value, where):
    given, hosts = ({BAKE_S: value}, ()) if where == "the run's parameters" else ({}, [{BAKE_S: value}])

    with pytest.raises(UsageError, match=f"{BAKE_S} is .* in {where}; expected seconds") as caught:
        told(context(**given), hosts)

    assert caught.value.hint


@pytest.mark.parametrize("variables", [{"slot": None}, {"slot": "red"}, {"release": "time-2"}])
def test_what_no_earlier_step_handed_on_is_a_usage_error(variables):
    with pytest.raises(UsageError, match="step bake"):
        told(context(**variables))


@pytest.mark.parametrize(("step_s", "expected_s"), [(3600.0, OPEN_S), (OPEN_S, OPEN_S), (4.0, 4.0)])
def test_a_step_waits_for_its_channels_no_longer_than_it_may_take(step_s, expected_s):
    assert told(context({"timeout_s": step_s})).timeout_s == expected_s


def test_an_action_is_told_to_end_when_the_time_of_its_step_is_over():
    assert told(context({"timeout_s": 0.0})).cancel.is_set()
    given = context()
    assert not told(given).cancel.is_set()
    given.cancel.set()
    assert told(given).cancel.is_set()


def test_a_time_limit_is_set_by_what_cancels_the_run_and_by_its_own_end():
    cancel = threading.Event()
    limit = TimeLimit(cancel, 600, SystemClock())
    assert (limit.is_set(), limit.wait(0.001), limit.passed) == (False, False, False)
    cancel.set()
    assert (limit.is_set(), limit.wait(600), limit.passed) == (True, True, False)

    over = TimeLimit(threading.Event(), 0.0, SystemClock())
    assert (over.is_set(), over.wait(600), over.passed) == (True, True, True)


def test_a_bake_ends_with_the_time_of_its_step_and_says_so():
    front = FakeFront("a", active="green", phase="bake", verdict="running")
    given = context({"timeout_s": 0.2})
    limit = TimeLimit(given.cancel, given.step.timeout_s, SystemClock())
    action = direct.Bake(
        DirectContext(
            targets=(front.target,), slot="green", run="run-1", fence=7, guard_s=600, cancel=limit,
            transports={"local": FakeTransport({"a": front})},
        )
    )  # fmt: skip
    execution = DirectExecution(given, action, limit)
    execution.prepare()

    report = execution.act()

    execution.close()
    assert report.outcome is Outcome.UNKNOWN
    assert report.reason.startswith("the time limit of the step (0.2 s) passed; the guard on a: running")


def test_the_inventory_of_the_run_s_snapshot_says_how_long_a_bake_is(tmp_path):
    assert BAKE_S in NAMES
    stand = Stand(tmp_path, {})
    front = {"hostside_path": "h", "service_state_dir": "s", "ansible_connection": "local"}
    today, planned = (
        Inventory(tmp_path, {"fronts": ("a",)}, {"a": {**front, BAKE_S: seconds}}) for seconds in (3, 600)
    )
    environment = Environment("lab", tmp_path, tmp_path / "inventories/lab", tmp_path / ".mcpops/lab")
    record = Record(tmp_path, Settings(name="shop"), stand.store, stand.journal, stand.clock)
    place, writer = Workplace(environment, record, None, today), stand.begin(step("one"))

    driver = place.driver(stand.journal.run("run-1"), writer, Listener(), planned, Vault())

    assert driver.executors.direct["bake"](context())._action.context.guard_s == 600
