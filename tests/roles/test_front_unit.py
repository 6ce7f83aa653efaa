"""The unit of the front, as text; on a real host it is tested by test_front_systemd.py."""

from __future__ import annotations

import configparser

from tests.integration.front_stand import render


def test_a_front_that_fails_again_and_again_is_started_again_and_again() -> None:
    """systemd gives up after 5 starts in 10 s, and looks for another limit in [Unit] only."""
    unit = configparser.ConfigParser(strict=False)
    unit.read_string(render({"front_service": "time", "front_state_dir": "/var/lib/mcpops/time"}, "front.service"))
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Service"]["Restart"] == "always"
