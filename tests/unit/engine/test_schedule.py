"""When schedules fire: time zones, daylight saving, clocks that jump, machines that slept. Nobody waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from mcpops.engine.schedule import GRACE, is_overdue, judge, pending, upcoming
from mcpops.model.schedule import Misfire, Schedule

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = {"name": "night", "environment": "lab", "runbook": "check"}


def schedule(cron="30 2 * * *", **more) -> Schedule:
    return Schedule(**NIGHT, cron=cron, **more)


def at(text: str, zone=UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def local(times, zone=BERLIN) -> list[str]:
    return [f"{time.astimezone(zone):%d %H:%M %z}" for time in times]


class Clockwork:
    """A scheduler and its record: ticks at moments that a test names, and keeps what was decided."""

    def __init__(self, one: Schedule) -> None:
        self.one = one
        self.last: datetime | None = None
        self.open: str | None = None
        self.fired: list[datetime] = []
        self.skipped: list[str] = []

    def tick(self, now: datetime) -> None:
        for decision in judge(self.one, pending(self.one, self.last, now), now, open_run=self.open):
            self.last = max(decision.due_at, self.last or decision.due_at)
            if decision.fire:
                self.fired.append(decision.due_at)
            else:
                self.skipped.append(decision.why)

    def between(self, start: datetime, end: datetime, every=timedelta(minutes=5)) -> None:
        now = start
        while now < end:
            self.tick(now)
            now += every


def test_it_fires_once_a_time_however_often_it_is_asked():
    clock = Clockwork(schedule())

    clock.between(at("2026-06-01 00:00"), at("2026-06-04 00:00"), timedelta(minutes=1))

    assert clock.fired == [at(f"2026-06-0{day} 02:30") for day in (1, 2, 3)]
    assert clock.skipped == []


def test_the_first_tick_of_a_schedule_makes_up_for_nothing_old():
    clock = Clockwork(schedule(misfire=Misfire.ONCE))

    clock.tick(at("2026-06-01 12:00"))

    assert (clock.fired, clock.skipped) == ([], [])


def test_a_day_of_spring_has_its_run_though_its_hour_is_missing():
    """29 March 2026, Berlin: 02:00 becomes 03:00. Debian's cron runs what was jumped over right after."""
    clock = Clockwork(schedule(timezone="Europe/Berlin"))

    clock.between(at("2026-03-28 00:00", BERLIN), at("2026-03-31 00:00", BERLIN))

    assert local(clock.fired) == ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]


def test_a_day_of_autumn_has_one_run_though_its_hour_comes_twice():
    """25 October 2026, Berlin: 03:00 becomes 02:00."""
    clock = Clockwork(schedule(timezone="Europe/Berlin"))

    clock.between(at("2026-10-24 00:00", BERLIN), at("2026-10-27 00:00", BERLIN))

    assert [text[:8] for text in local(clock.fired)] == ["24 02:30", "25 02:30", "26 02:30"]


def test_what_runs_each_hour_follows_real_time_over_the_change():
    hours = list(islice(upcoming(schedule("0 * * * *", timezone="Europe/Berlin"), at("2026-10-24 22:30")), 6))

    assert {b - a for a, b in pairwise(hours)} == {timedelta(hours=1)}


@pytest.mark.parametrize(
    ("misfire", "hours_late", "fired"),
    [
        ({"misfire": Misfire.SKIP}, 0.1, 1),
        ({"misfire": Misfire.SKIP}, 3, 0),
        ({"misfire": Misfire.ONCE}, 3, 1),
        ({"misfire": Misfire.ONCE}, 20, 1),
        ({"misfire": Misfire.WITHIN, "within_s": 4 * 3600}, 3, 1),
        ({"misfire": Misfire.WITHIN, "within_s": 2 * 3600}, 3, 0),
    ],
)
def test_a_machine_that_slept_over_the_time_does_what_the_policy_says(misfire, hours_late, fired):
    clock = Clockwork(schedule(**misfire))
    clock.tick(at("2026-06-01 02:31"))

    clock.tick(at("2026-06-02 02:30") + timedelta(hours=hours_late))

    assert len(clock.fired) == 1 + fired
    assert bool(clock.skipped) is not bool(fired)
    clock.tick(at("2026-06-03 02:31"))
    assert clock.fired[-1] == at("2026-06-03 02:30"), "the next one is on time"


@pytest.mark.parametrize("misfire", [Misfire.ONCE, Misfire.WITHIN, Misfire.SKIP])
def test_after_a_week_asleep_there_is_no_stampede(misfire):
    clock = Clockwork(schedule("*/5 * * * *", misfire=misfire, within_s=600))
    clock.tick(at("2026-06-01 00:00"))

    clock.tick(at("2026-06-08 00:02"))

    assert clock.fired == [at("2026-06-01 00:00"), at("2026-06-08 00:00")]
    assert len(clock.skipped) == 1
    assert "2015 times" in clock.skipped[0]


def test_a_clock_that_jumps_back_fires_nothing_twice():
    clock = Clockwork(schedule("*/10 * * * *"))
    clock.between(at("2026-06-01 00:00"), at("2026-06-01 01:00"), timedelta(minutes=1))
    before = list(clock.fired)

    clock.between(at("2026-06-01 00:15"), at("2026-06-01 01:05"), timedelta(minutes=1))

    assert clock.fired == [*before, at("2026-06-01 01:00")]


def test_a_clock_that_jumps_ahead_is_as_a_machine_that_slept():
    clock = Clockwork(schedule("0 * * * *"))
    clock.between(at("2026-06-01 00:00"), at("2026-06-01 02:00"))

    clock.tick(at("2026-06-01 09:45"))
    clock.between(at("2026-06-01 09:50"), at("2026-06-01 10:30"))

    assert clock.fired == [at("2026-06-01 00:00"), at("2026-06-01 01:00"), at("2026-06-01 10:00")]


def test_while_a_run_of_it_is_open_none_is_fired_and_a_patient_one_follows():
    clock = Clockwork(schedule("0 * * * *", misfire=Misfire.ONCE))
    clock.tick(at("2026-06-01 00:00"))
    clock.open = "run-1"

    clock.between(at("2026-06-01 00:05"), at("2026-06-01 03:30"))
    assert len(clock.fired) == 1

    clock.open = None
    clock.tick(at("2026-06-01 03:31"))
    assert clock.fired[1:] == [at("2026-06-01 03:00")]


def test_what_is_skipped_for_an_open_run_says_which():
    clock = Clockwork(schedule("0 * * * *"))
    clock.tick(at("2026-06-01 00:00"))
    clock.open = "run-1"

    clock.between(at("2026-06-01 00:55"), at("2026-06-01 01:20"))

    assert clock.skipped == ["900 s late, and the policy is skip; run run-1 of it was open"]


def test_jitter_is_the_same_for_everybody_and_differs_from_day_to_day():
    one = schedule(jitter_s=600.0)
    days = [at(f"2026-06-{day:02} 02:30") for day in range(1, 29)]
    offs = [(one.put_off(day) - day).total_seconds() for day in days]

    assert all(0 <= off <= 600 for off in offs)
    assert len(set(offs)) == len(offs)
    assert offs == [(schedule(jitter_s=600.0).put_off(day) - day).total_seconds() for day in days]
    clock = Clockwork(one)
    clock.between(days[0] - timedelta(hours=1), days[3], timedelta(minutes=1))
    assert clock.fired == days[:3]


def test_a_time_that_is_put_off_does_not_count_before_its_moment():
    one = schedule(jitter_s=600.0)
    due = at("2026-06-01 02:30")

    assert pending(one, due - timedelta(days=1), one.put_off(due) - timedelta(seconds=1)) == []
    assert pending(one, due - timedelta(days=1), one.put_off(due)) == [due]


def test_the_run_of_a_time_has_one_name():
    one, due = schedule(), at("2026-06-01 02:30")

    assert one.run_id(due) == schedule().run_id(due.astimezone(BERLIN))
    assert one.run_id(due) != one.run_id(due + timedelta(days=1))
    assert one.run_id(due) != Schedule(**(NIGHT | {"environment": "other"}), cron=one.cron).run_id(due)
    assert one.run_id(due).startswith("20260601-023000-")


@pytest.mark.parametrize(
    ("last", "max_age_s", "overdue"),
    [(None, 3600, True), (None, None, False), (30, 3600, False), (3601, 3600, True), (10**9, None, False)],
)
def test_overdue_is_the_absence_of_success(last, max_age_s, overdue):
    now = at("2026-06-01 12:00")
    success = None if last is None else now - timedelta(seconds=last)

    assert is_overdue(schedule(max_age_s=max_age_s), success, now) is overdue


def test_the_grace_is_longer_than_the_wake_ups_are_apart():
    assert timedelta(minutes=5) * 2 <= GRACE
