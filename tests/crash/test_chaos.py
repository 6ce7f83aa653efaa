"""A short round of chaos on each database, its negative control, and a judge that is seen to say no."""

from __future__ import annotations

import pytest

from tests.crash.chaos import Played, Setting, judge, play
from tests.servers import create_database


@pytest.fixture
def home(tmp_path):
    return tmp_path


def test_workers_that_are_killed_at_random_do_nothing_twice_beside_or_stale_on_sqlite(home):
    is_right(play(Setting(home / "journal.sqlite", home, runs=6), workers=2, kill_every_s=0.35, limit_s=120))


def test_workers_that_are_killed_at_random_do_nothing_twice_beside_or_stale_on_postgres(home, postgres_url):
    where = create_database(postgres_url, "chaos")
    is_right(play(Setting(where, home, runs=6), workers=3, kill_every_s=0.4, limit_s=120))


def is_right(played: Played) -> None:
    assert played.kills >= 5, "too few kills: nothing was on trial"
    assert (played.overlaps, played.stale, played.disorder) == (0, 0, [])
    assert played.ended, played.states
    assert played.wrong is None


def test_without_the_reaper_there_are_overlaps(home):
    """The negative control: what the others prove is proved by something."""
    setting = Setting(home / "journal.sqlite", home, reaping=False, work_s=(0.5, 1.0), runs=6)

    assert play(setting, workers=2, kill_every_s=0.35, limit_s=60).overlaps > 0


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["red run-00 step1 5 begin", "red run-00 step1 5 overlap"], "overlaps"),
        (["red run-00 step1 5 begin", "red run-00 step1 4 begin"], "stale"),
        (["red run-00 step2 5 begin"], "disorder"),
        (["red run-00 step1 5 begin", "red run-00 step2 5 begin", "red run-00 step1 5 begin"], "disorder"),
        (["red run-00 undo-step1 5 begin", "red run-00 step1 5 begin"], "disorder"),
        (["red run-02 step1 5 begin", "red run-00 step1 6 begin"], "disorder"),
    ],
)
def test_the_judge_sees_it(home, lines, what):
    (home / "log").write_text("".join(f"{line}\n" for line in lines))
    played = Played()

    judge(Setting(home / "journal.sqlite", home), played)

    assert getattr(played, what)


def test_two_environments_do_not_count_as_one(home):
    (home / "log").write_text("red run-02 step1 9 begin\ngreen run-01 step1 5 begin\n")
    played = Played()

    judge(Setting(home / "journal.sqlite", home), played)

    assert (played.stale, played.disorder) == (0, [])
