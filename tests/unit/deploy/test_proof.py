"""Proof of a switch: the status and the probe each have to say so, and each alone is not enough."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mcpops.deploy import proof
from mcpops.deploy.cutover import read_fronts
from mcpops.deploy.fleet_state import FrontState
from mcpops.deploy.plan import RollbackPlan, plan_rollback
from mcpops.hostside.state import HostError
from mcpops.model.target import Target
from mcpops.remote.fleet import Fleet
from tests.unit.deploy.fakes import FakeFront, FakeTransport, answer, gone

FRONT = {"url": "https://127.0.0.1:8443", "server_name": "time.test", "mcp_path": "/mcp", "ca_pem": "PEM"}


def made(front: FakeFront) -> tuple[Fleet, RollbackPlan]:
    """A fleet of one front that went back from green to blue, and the plan that said so."""
    front.switch("green", 2, "cutover: r2")
    fleet = Fleet.open([front.target], 1.0, {"local": FakeTransport({"a": front})})
    plan = plan_rollback(read_fronts(fleet, fleet.greetings), now=datetime(2026, 1, 1, tzinfo=UTC))
    assert isinstance(plan, RollbackPlan)
    front.switch("blue", 3, "rollback")
    front.faults["status"] = lambda: answer(**{**front.status(), "front": FRONT})
    return fleet, plan


def outcomes(fleet: Fleet, plan: RollbackPlan) -> dict[str, str]:
    return {row.task: row.outcome.value for row in proof.prove(fleet, plan, 1.0)}


def served(slot: str) -> Any:
    return lambda endpoint: {"slot": slot, "tools": [], "took_ms": 1.0}


def test_both_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "probe", served("blue"))
    assert outcomes(*made(FakeFront("a"))) == {"read back": "ok", "probe": "ok"}


def test_a_client_is_served_by_the_other_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "probe", served("green"))
    assert outcomes(*made(FakeFront("a"))) == {"read back": "ok", "probe": "failed"}


def test_no_client_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(endpoint: object) -> None:
        raise HostError("unreachable", "it does not answer")

    monkeypatch.setattr(proof, "probe", refused)
    assert outcomes(*made(FakeFront("a"))) == {"read back": "ok", "probe": "unknown"}


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"active": "green"}, "failed"),
        ({"in_sync": False}, "failed"),
        ({"phase": "bake"}, "failed"),
        ({"proxy": False, "in_sync": None}, "unknown"),
    ],
    ids=str,
)
def test_the_status_says_otherwise(monkeypatch: pytest.MonkeyPatch, said: Mapping[str, object], outcome: str) -> None:
    monkeypatch.setattr(proof, "probe", served("blue"))
    front = FakeFront("a")
    fleet, plan = made(front)
    front.faults["status"] = lambda: answer(**{**front.status(), "front": FRONT, **said})
    assert outcomes(fleet, plan) == {"read back": outcome, "probe": "ok"}


def test_the_channel_ended_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "probe", served("blue"))
    front = FakeFront("a")
    fleet, plan = made(front)
    front.faults["status"] = gone("a")
    assert outcomes(fleet, plan) == {"read back": "unknown"}


@pytest.mark.parametrize(
    ("url", "connection", "address", "expected"),
    [
        ("https://127.0.0.1:8443", "local", "ignored", "https://127.0.0.1:8443/mcp"),
        ("https://127.0.0.1:8443", "ssh", "10.0.0.5", "https://10.0.0.5:8443/mcp"),
        ("https://localhost", "ssh", "fd00::5", "https://[fd00::5]/mcp"),
        ("https://time.example:443", "ssh", "10.0.0.5", "https://time.example:443/mcp"),
    ],
)
def test_where_this_machine_reaches_the_front(
    tmp_path: Path, url: str, connection: Any, address: str, expected: str
) -> None:
    target: Target = replace(FakeFront("a").target, connection=connection, address=address)
    front = FrontState(host="a", active=None, generation=1, slots={}, front={**FRONT, "url": url})
    endpoint = proof.endpoint(front, target, tmp_path, 1.0)
    assert (endpoint.url, endpoint.server_name) == (expected, "time.test")
    assert endpoint.cafile
    assert Path(endpoint.cafile).read_text() == "PEM"


def test_nothing_of_a_proof_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(proof, "probe", served("blue"))
    outcomes(*made(FakeFront("a")))
    assert list(tmp_path.iterdir()) == []
