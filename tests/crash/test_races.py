"""Two deploys at once: of one project the second is busy, of two control nodes one is fenced; never a mixed front.

The short form races once a case; `python -m pytest tests/crash` twenty times a case (`-m slow`: the rest).
"""

from __future__ import annotations

import itertools
import re

import pytest

from tests.e2e.stand import QUICK, Load, Project, wait_for

LONG = 20


def races(short: int, long: int) -> list[object]:
    """The numbers of the races, those of the long form with its mark."""
    return [*range(short), *(pytest.param(number, marks=pytest.mark.slow) for number in range(short, long))]


@pytest.mark.parametrize("race", races(1, LONG))
def test_of_two_deploys_in_one_project_one_goes_through(project, race):
    with Load(project) as load:
        releases = [project.release(f"time-{race}-{which}") for which in ("one", "two")]
        commands = [project.start("deploy", release, *QUICK) for release in releases]
        ended = [command.end() for command in commands]

    assert load.failed == []
    assert sorted(one.code for one in ended) == [0, 4], [one.error for one in ended]
    is_whole(project)
    assert project.serving() == releases[[one.code for one in ended].index(0)]


# When the second begins; its own first look at the front comes some steps of the first later.
MOMENTS = ("▸ stage", "", "▸ prove", "run ", "▸ preflight", "▸ cutover", "▸ bake", "▸ record", "▸ drain", "▸ retire")


@pytest.mark.parametrize("race", races(1, LONG))
def test_of_two_control_nodes_one_is_fenced(project, elsewhere, race):
    """Two journals cannot know of each other: the fence on the front decides, and the later one wins."""
    with Load(project) as load:
        releases = (f"time-{race}-here", f"time-{race}-there")
        for name, home in itertools.product(releases, (project, elsewhere)):
            home.release(name)  # whichever serves in the end, the tests after this one know it
        first = project.start("deploy", releases[0], *QUICK)
        if MOMENTS[race % len(MOMENTS)]:
            first.until(MOMENTS[race % len(MOMENTS)])
        second = elsewhere.start("deploy", releases[1], *QUICK)
        ended = [first.end(), second.end()]

    said = [(one.code, one.error) for one in ended]
    assert load.failed == [], said
    winners = [release for release, one in zip(releases, ended, strict=True) if one.code == 0]
    for loser in (one for one in ended if one.code):
        assert loser.code in (1, 8, 9), said
        assert re.search(r"fence|newer run|another run", loser.error), said
    is_whole(project)
    assert project.serving() in winners, said


def is_whole(project: Project) -> None:
    """One release is active and runs, the proxy serves what the disk says, and nobody holds a lease."""
    wait_for(lambda: project.front()["phase"] == "steady", 20, "the guard of the loser ends")
    front = project.front()
    assert front["in_sync"] is True
    assert front["slots"][front["active"]]["running"] is True
    assert front["slots"][front["active"]]["release"] == front["release"]
    assert project.run("status").out["lease"] is None
