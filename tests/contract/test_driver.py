"""The process driver keeps the drivers' contract. (The container driver: tests/lab/test_container_driver.py.)"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.driver_contract import DriverContract
from tests.integration.slot_stand import SlotStand

PORT = 18220


class ProcessStand(SlotStand):
    """Slots as processes under supervisord."""

    def good(self, number: int) -> dict[str, Any]:
        return self.release(f"tiny-{number}", version=f"{number}.0").bundle()

    def wrong_digest(self) -> dict[str, Any]:
        bundle = self.good(1)
        return {**bundle, "contents": {name: text + "\n" for name, text in bundle["contents"].items()}}

    def not_starting(self) -> dict[str, Any]:
        return self.release("tiny-3", "--fail", "no licence key").bundle()

    def taken_port(self, slot: str) -> socket.socket:
        return socket.create_server(("127.0.0.1", self.ports[slot]))


class TestProcessDriver(DriverContract):
    """Real supervisord, real uv, a small server."""

    @pytest.fixture
    def stand(self, tmp_path: Path) -> Iterator[ProcessStand]:
        with ProcessStand(tmp_path / "h", PORT) as stand:
            yield stand
