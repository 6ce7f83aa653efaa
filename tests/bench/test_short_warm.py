"""The bench of the warm connection in its short form, and that its judges see what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.warm import attempt, prepare, workplace
from tests.bench.warm_judge import (
    BARS,
    TASKS,
    Expected,
    Trial,
    ansible_problem,
    bars,
    holds,
    mcpops_problem,
    problem,
    pyinfra_problem,
    summary,
)
from tests.bench.warm_stand import Took, hosts, is_of_session
from tests.bench.warm_ways import Place, furnish

AGAIN, FIRST = Expected(("w1", "w2"), first=False), Expected(("w1",), first=True)
RECAP = (
    "{host}                         : ok={ok}   changed={changed}    unreachable=0    failed={failed}    skipped=0\n"
)
TOTAL = "    Grand total             60      {changed}      {failed}      60      \n"


@pytest.mark.lab
@pytest.mark.timeout(300)
def test_the_warm_connection_leaves_hosts_less_than_half_of_the_work() -> None:
    """The host's CPU and not the time: what else this machine does cannot turn it round (measured: an eighth)."""
    with workplace() as home, hosts("benchshort", 1) as stand:
        furnish(home, stand)
        prepare(stand, ["warm"], home)
        tuned, warm = (attempt(name, stand, home, first=False) for name in ("tuned", "warm"))
    assert [tuned.problem, warm.problem] == ["", ""]
    assert warm.host_cpu_s < 0.5 * tuned.host_cpu_s, (warm, tuned)


def recap(*, ok: int = TASKS, changed: int = 0, failed: int = 0, names: tuple[str, ...] = AGAIN.hosts) -> str:
    return "PLAY RECAP ***\n" + "".join(
        RECAP.format(host=name, ok=ok, changed=changed, failed=failed) for name in names
    )


def test_a_recap_counts_only_with_every_host_and_every_task_and_no_change() -> None:
    assert ansible_problem(recap(), AGAIN, facts=False) == ""
    assert ansible_problem(recap(ok=TASKS + 1), AGAIN, facts=True) == ""
    assert ansible_problem(recap(ok=TASKS + 1, changed=FIRST.changes, names=("w1",)), FIRST, facts=False) == ""
    for wrong in (recap(changed=1), recap(failed=1), recap(ok=TASKS - 1), recap(names=("w1",)), ""):
        assert "expected" in ansible_problem(wrong, AGAIN, facts=False), wrong


def test_a_deploy_of_pyinfra_counts_only_without_a_change_or_an_error() -> None:
    assert pyinfra_problem(TOTAL.format(changed="-", failed="-"), AGAIN) == ""
    for wrong in (TOTAL.format(changed="1", failed="-"), TOTAL.format(changed="-", failed="2"), "--> Results:\n"):
        assert pyinfra_problem(wrong, AGAIN)
    assert pyinfra_problem(TOTAL.format(changed="-", failed="-"), FIRST), "a first run that changed nothing"


def test_a_run_that_failed_or_left_something_running_counts_for_nothing(tmp_path: Path) -> None:
    place, good = Place(tmp_path, tmp_path), Took(1.0, 1.0, 1.0, 0.0, 0, recap(), ())
    assert problem("tuned", good, AGAIN, place) == ""
    assert "exit 2" in problem("tuned", replace(good, exit=2), AGAIN, place)
    assert "python3 server" in problem("warm", replace(good, left=("w1: python3 server",)), AGAIN, place)
    assert "no run that is done" in mcpops_problem("failed: run 20261126-100918-ef652a", AGAIN, place)


def test_what_a_host_runs_by_itself_is_no_session() -> None:
    assert not is_of_session("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups")
    assert not is_of_session("/usr/sbin/cron -f")
    assert all(map(is_of_session, ("sshd: root@notty", "/usr/bin/python3 -c 1", "python3.11")))


def trials(stand: str, **walls_s: float) -> dict[str, object]:
    """A stand's row, of these times and two rounds of each."""
    return summary(stand, "", [Trial(way, wall_s, 1.0, 1.0, 0.0, "") for way, wall_s in walls_s.items()] * 2)


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: f"{bar.stand}, {bar.ours} against {bar.peer}")
def test_each_bar_is_missed_by_a_hair(bar) -> None:
    ours_s = 100 * bar.limit
    assert holds(trials(bar.stand, **{bar.peer: 100.0, bar.ours: ours_s}))
    assert not holds(trials(bar.stand, **{bar.peer: 100.0, bar.ours: ours_s + 0.2}))


def test_a_problem_or_another_end_state_misses_every_bar() -> None:
    seen = [Trial("default", 20.0, 1, 1, 0, "", "a\nb"), Trial("warm", 1.0, 1, 1, 0, "", "a\nb")]
    assert holds(summary("fresh", "", seen))
    assert not holds(summary("fresh", "", [seen[0], replace(seen[1], state="a\nc")]))
    assert not holds(summary("fresh", "", [seen[0], replace(seen[1], problem="exit 1")]))


def test_figures_say_what_was_not_measured(tmp_path: Path) -> None:
    (tmp_path / "warm-5.json").write_text(json.dumps({"row": trials("5", default=40.0, warm=4.0)}))
    rows = list(bars(tmp_path))
    assert [(row[3], row[2][:7]) for row in rows if "5 hosts" in row[0]] == [(True, "0.100 (")]
    assert {row[3] for row in rows if "5 hosts" not in row[0]} == {False}
    assert len(rows) == len(BARS)
