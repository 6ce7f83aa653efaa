"""A slow driver holds up nobody: the lock of the service is free while it is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from mcpops.hostside import slots
from mcpops.hostside.drivers import Place, Release, key_of
from mcpops.hostside.service import load_service
from mcpops.hostside.slot_store import SlotStore
from mcpops.hostside.state import Context, locked

RELEASE: Release = {"name": "r1", "digest": "sha256:" + "1" * 64, "stop_timeout_s": 1}


class Slow:
    """A driver that finds the service's lock free whenever it is asked, or raises."""

    def __init__(self, context: Context) -> None:
        self.context, self.runs, self.asked = context, "", 0

    def _ask(self) -> None:
        self.asked += 1
        with locked(self.context, 0.05):
            pass

    def install(self, place: Place, release: Release, contents: Mapping[str, str]) -> None:
        self._ask()
        place.home(release).mkdir(parents=True, exist_ok=True)

    def start(self, place: Place, release: Release) -> None:
        self._ask()
        self.runs = key_of(release)

    def stop(self, place: Place, timeout_s: float) -> bool:
        self._ask()
        self.runs = ""
        return True

    def discard(self, place: Place, release: Release) -> None:
        self._ask()

    def running(self, place: Place) -> str | None:
        self._ask()
        return self.runs or None

    def logs(self, place: Place, release: Release, lines: int) -> str:
        return ""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlotStore:
    for name, text in {"active": "tiny none\n", "slots": "blue open\ngreen open\n", "preview": ""}.items():
        (tmp_path / f"{name}.map").write_text(text)
    facts = {
        "service": "tiny", "mcp_path": "/mcp", "admin_socket": str(tmp_path / "nobody.sock"), "driver": "process",
        "maps": {name: str(tmp_path / f"{name}.map") for name in ("active", "slots", "preview")},
        "slots": {slot: {"address": "127.0.0.1", "port": 1} for slot in ("blue", "green")},
        "front_url": "https://127.0.0.1:1", "server_name": "tiny.test",
    }  # fmt: skip
    (tmp_path / "service.json").write_text(json.dumps(facts))
    (tmp_path / "slots").mkdir()
    (tmp_path / "releases").mkdir()
    monkeypatch.setattr(slots, "health", lambda *_: (True, "HTTP 200"))
    monkeypatch.setattr(slots, "wait_healthy", lambda *_: 0.1)
    context = Context(tmp_path, run="r", fence=1)
    return SlotStore(context, load_service(context), Slow(context))


def test_the_driver_is_asked_without_the_lock_of_the_service(store: SlotStore) -> None:
    assert slots.stage(store, "blue", RELEASE, {}).changed
    assert slots.stage(store, "blue", RELEASE, {}).changed is False, "it is exact"
    assert slots.stop(store, "blue").changed
    assert slots.start(store, "blue").changed
    assert slots.start(store, "blue").changed is False
    assert slots.stage(store, "blue", {**RELEASE, "name": "r2", "digest": "sha256:" + "2" * 64}, {}).changed
    assert slots.revert(store, "blue").changed
    assert slots.remove(store, "blue").changed
    assert isinstance(store.driver, Slow)
    assert store.driver.asked > 10


def test_a_slot_that_is_stopped_says_so_before_it_is(store: SlotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever would activate it meanwhile looks at the record, under the lock."""
    slots.stage(store, "blue", RELEASE, {})
    seen: list[bool] = []
    monkeypatch.setattr(Slow, "stop", lambda *_: seen.append(bool((store.staged("blue") or {})["stopped"])) or True)

    slots.stop(store, "blue")

    assert seen == [True]
    slots.start(store, "blue")
    assert (store.staged("blue") or {})["stopped"] is False
