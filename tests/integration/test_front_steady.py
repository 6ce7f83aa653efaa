"""The steady phase on a real HAProxy: what clients get while the active slot is busy, dead, or started again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mcpops.hostside.proxy import Proxy
from tests.integration.front_stand import FrontStand, wait_for

PORT = 18150


@pytest.fixture(scope="module")
def one_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontStand]:
    with FrontStand(tmp_path_factory.mktemp("steady"), PORT) as stand:
        yield stand


@pytest.fixture
def stand(one_stand: FrontStand) -> FrontStand:
    """Blue is active, in the steady phase; in green runs what nobody has proved."""
    for backend in one_stand.backends.values():
        if backend.process is None:
            backend.start()
    wait_for("both slots are up", one_stand.all_up)
    one_stand.activate("blue", "--healthy-wait-s", "5")
    return one_stand


class Asking:
    """A new client each 100 ms, whatever became of the ones before; what each was answered."""

    def __init__(self, stand: FrontStand) -> None:
        self.stand, self.stopped = stand, threading.Event()
        self.answers: list[tuple[int, str]] = []
        self.clients: list[threading.Thread] = []
        self.asking = threading.Thread(target=self._ask_on)

    def _ask_on(self) -> None:
        while not self.stopped.wait(0.1):
            self.clients.append(threading.Thread(target=self._ask))
            self.clients[-1].start()

    def _ask(self) -> None:
        self.answers.append(self.stand.ask()[:2])

    def __enter__(self) -> Asking:
        self.asking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in (self.asking, *self.clients):
            thread.join(20)


def is_down(stand: FrontStand, slot: str, *kinds: str) -> bool:
    servers = Proxy(stand.state / "admin.sock").servers()
    return all(servers[f"{kind}_{slot}", slot].down for kind in kinds)


@contextmanager
def stalled(stand: FrontStand, slot: str) -> Iterator[None]:
    """Stop a slot's process as a tool does that holds the event loop, for as long as an impatient check gives it."""
    process = stand.backends[slot].process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        wait_for("the bake phase, which is impatient, has enough of it", lambda: is_down(stand, slot, "bake"))
        time.sleep(1)  # every backend counts its own checks, half a second apart
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


@pytest.mark.parametrize("other", ["running", "stopped"])
def test_a_busy_slot_is_waited_for(stand: FrontStand, other: str) -> None:
    green = stand.backends["green"]
    before = green.stats()["requests"]
    if other == "stopped":
        green.kill()
        wait_for("the front knows", lambda: is_down(stand, "green", "bake", "slot"))
    with Asking(stand) as asking, stalled(stand, "blue"):
        pass
    assert len(asking.answers) > 5
    assert set(asking.answers) == {(200, "blue")}, "each client waited, and nobody was led to the other slot"
    if other == "running":
        assert green.stats()["requests"] == before


def test_a_busy_idle_slot_is_not_switched_to(stand: FrontStand) -> None:
    with stalled(stand, "green"):
        assert not is_down(stand, "green", "slot")
        assert stand.activate("green", "--healthy-wait-s", "0", expect=9)["error"]["name"] == "unhealthy"
    assert stand.ask()[:2] == (200, "blue")


def test_a_proxy_that_has_only_just_started_has_proved_no_slot(stand: FrontStand) -> None:
    """It takes every server for up until its first check ends, and says so with the same word."""
    process = stand.backends["green"].process
    assert process is not None
    stand.stop_proxy()
    os.kill(process.pid, signal.SIGSTOP)  # no check of it succeeds, and the patient one ends after 2 s only
    try:
        stand.run_proxy()
        wait_for("the proxy answers", lambda: stand.hostside("status")["proxy"])
        assert stand.hostside("status")["slots"]["green"]["healthy"] is None
        assert stand.activate("green", "--healthy-wait-s", "0", expect=9)["error"]["name"] == "unhealthy"
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert stand.activate("green", "--healthy-wait-s", "10")["changed"] is True


def test_a_dead_slot_is_503_and_not_another_release(stand: FrontStand) -> None:
    blue, green = stand.backends["blue"], stand.backends["green"]
    before = green.stats()["requests"]
    blue.kill()
    assert stand.ask()[:2] == (503, ""), "after it was tried for a while"
    wait_for("the front knows", lambda: is_down(stand, "blue", "slot"))
    assert stand.ask()[:2] == (503, "")
    assert green.stats()["requests"] == before
    blue.start()
    wait_for("the front sees it again", lambda: not is_down(stand, "blue", "slot"))
    assert stand.ask()[:2] == (200, "blue")


class Restarted(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_restart_of_the_active_slot_costs_no_request(stand: FrontStand) -> None:
    stand.backends["blue"].kill()
    with ExitStack() as until_nobody_asks, Asking(stand) as asking:
        wait_for("the bake phase, which is impatient, has enough of it", lambda: is_down(stand, "blue", "bake"))
        assert asking.answers == [], "they wait"
        server = until_nobody_asks.enter_context(ThreadingHTTPServer(("127.0.0.1", PORT + 1), Restarted))
        until_nobody_asks.callback(server.shutdown)
        threading.Thread(target=server.serve_forever).start()
        wait_for("it answers", lambda: len(asking.answers) > 5)
    assert set(asking.answers) == {(200, "blue")}


def test_a_slot_that_was_down_for_long_serves_as_soon_as_it_runs(stand: FrontStand) -> None:
    """What a rollback does: start the old release, then switch to it, then perhaps back."""
    green = stand.backends["green"]
    green.kill()
    wait_for("the front knows", lambda: is_down(stand, "green", "bake", "slot"))
    green.start()
    assert stand.activate("green", "--healthy-wait-s", "5")["changed"] is True
    assert stand.ask()[:2] == (200, "green")
    assert stand.activate("blue")["changed"] is True
    assert stand.ask()[:2] == (200, "blue")
