"""systemd's words for cron's: held against systemd itself, where it is."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from itertools import islice

import pytest

from mcpops.cli.timers import calendars, cron_line, units
from mcpops.engine.schedule import upcoming
from mcpops.model.schedule import Schedule

ANALYZE = shutil.which("systemd-analyze")


def schedule(cron, zone="UTC"):
    return Schedule(name="night", environment="lab", runbook="check", cron=cron, timezone=zone)


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("30 2 * * *", ["*-*-* 2:30:00 UTC"]),
        ("*/15 8-18 * * *", ["*-*-* 8..18:0/15:00 UTC"]),
        ("0 0 1,15 */3 *", ["*-1/3-1,15 0:0:00 UTC"]),
        ("5 4 * * MON-FRI", ["Mon..Fri *-*-* 4:5:00 UTC"]),
        ("5 4 13 jan 5", ["*-1-13 4:5:00 UTC", "Fri *-1-* 4:5:00 UTC"]),
        ("0 0 L * *", []),
        ("0 0 * * 1#2", []),
    ],
)
def test_a_cron_expression_in_systemd_s_words(cron, said):
    assert calendars(schedule(cron)) == said


@pytest.mark.skipif(ANALYZE is None, reason="not on this machine: systemd-analyze")
@pytest.mark.parametrize(
    "cron", ["30 2 * * *", "*/15 8-18 * * *", "0 0 1,15 */3 *", "5 4 * * MON-FRI", "7 */5 * * *", "5 4 * * 0,6"]
)
def test_systemd_wakes_at_the_times_that_cron_means(cron):
    one, base = schedule(cron), datetime(2026, 6, 1, tzinfo=UTC)
    (calendar,) = calendars(one)
    argv = [ANALYZE, "calendar", "--iterations=5", f"--base-time={base:%Y-%m-%d %H:%M:%S} UTC", calendar]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=30, check=True, env={"TZ": "UTC", "LC_ALL": "C"}
    )
    said = [line.split(": ", 1)[1] for line in done.stdout.splitlines() if "Next elapse" in line or "Iter" in line]

    assert said == [f"{at:%a %Y-%m-%d %H:%M:%S} UTC" for at in islice(upcoming(one, base), 5)]


def test_a_timer_also_comes_by_itself_and_the_service_only_ticks():
    made = units("shop", [schedule("30 2 * * *")], ["/x/python", "-C", "/srv/50% shop"])

    assert sorted(made) == ["mcpops-shop-lab-night.service", "mcpops-shop-lab-night.timer"]
    timer, service = made["mcpops-shop-lab-night.timer"], made["mcpops-shop-lab-night.service"]
    assert "OnUnitInactiveSec=5min" in timer
    assert "Persistent=true" in timer
    assert "ExecStart=/x/python -C '/srv/50%% shop' schedule tick -e lab --only night\n" in service


@pytest.mark.skipif(ANALYZE is None, reason="not on this machine: systemd-analyze")
def test_systemd_takes_the_units(tmp_path):
    for name, text in units("shop", [schedule("30 2 * * *"), schedule("0 0 L * *")], ["/bin/true"]).items():
        (tmp_path / name).write_text(text)

    paths = sorted(tmp_path.iterdir())
    done = subprocess.run([ANALYZE, "verify", *paths], capture_output=True, text=True, timeout=60, check=False)
    about = [line for line in done.stderr.splitlines() if "mcpops-" in line]
    assert about == [], done.stderr


def test_without_systemd_cron_looks_each_minute():
    assert cron_line(["/x/python", "-C", "/srv/50%"]) == "* * * * * /x/python -C /srv/50\\% schedule tick -q"
