"""The demo takes everything down whatever came, and its table passes only when clients worked and saw no fault."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demo import run
from demo.http1 import Endpoint
from demo.run import BROKEN, BROKEN_MAY_FAIL, GOOD_NEXT, Act, DemoFailed, broken_promises, play
from demo.sessions import SessionPlan, SessionReport, SessionsFailed
from demo.traffic import Sample

GOOD = SessionReport("2.3.0", "legacy", opened=4, calls=40, lost=0, errors=0, notes=0, missed=0, slots=(), why=())
ANSWERED = Sample(0, 0, 0, 0, 0, "GET", fresh=False, slot="blue", fault=None)
FAULT = replace(ANSWERED, fault="5xx")


def act(*sessions: SessionReport, release: str = GOOD_NEXT, samples: Sequence[Sample] = (ANSWERED,)) -> Act:
    return Act("Deploy", ("deploy", release), 0, samples, sessions)


def test_clients_that_worked_and_saw_no_fault_break_no_promise() -> None:
    assert broken_promises(act(GOOD, GOOD)) == []


@pytest.mark.parametrize("release", [GOOD_NEXT, BROKEN])
@pytest.mark.parametrize(
    ("seen", "says"),
    [
        ({"opened": 0}, "no session of SDK 2.3.0 was opened"),
        ({"calls": 0}, "no session of SDK 2.3.0 made a call"),
        ({"errors": 1000}, "SDK 2.3.0 could not open a session 1000 times"),
        ({"lost": 1}, "1 sessions of SDK 2.3.0 were lost"),
        ({"missed": 2}, "sessions of SDK 2.3.0 missed 2 notifications"),
    ],
)
def test_one_group_that_did_nothing_or_saw_a_fault_breaks_it(release: str, seen: dict[str, Any], says: str) -> None:
    assert broken_promises(act(GOOD, replace(GOOD, **seen), release=release)) == [f"deploy {release}: {says}"]


def test_without_clients_nothing_was_shown() -> None:
    assert broken_promises(act()) == [f"deploy {GOOD_NEXT}: no client held a session"]
    assert broken_promises(act(GOOD, samples=())) == [f"deploy {GOOD_NEXT}: no request was sent"]


def test_only_the_broken_release_may_fail_requests_and_few() -> None:
    assert broken_promises(act(GOOD, samples=[FAULT])) == [f"deploy {GOOD_NEXT}: 1 requests failed, of which 0 may"]
    few, many = [FAULT] * BROKEN_MAY_FAIL, [FAULT] * (BROKEN_MAY_FAIL + 1)
    assert broken_promises(act(GOOD, release=BROKEN, samples=few)) == []
    assert broken_promises(act(GOOD, release=BROKEN, samples=many)) == [
        f"deploy {BROKEN}: 6 requests failed, of which 5 may"
    ]


def test_one_broken_promise_fails_the_table_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.report([act(GOOD), act(GOOD)])
    assert not run.report([act(GOOD), act(replace(GOOD, opened=0, calls=0, errors=9, why=("error: [Errno 111]",)))])
    said = " ".join(capsys.readouterr().err.split())  # the terminal's width breaks lines
    assert "no session of SDK 2.3.0 was opened" in said
    assert "error: [Errno 111]" in said


class Stage:
    """Stands in for commands, load and sessions: what is done to them, in order; `fails` names what does not work."""

    def __init__(self, *fails: str, report: SessionReport = GOOD) -> None:
        self.did: list[str] = []
        self.fails, self.report = set(fails), report
        self.samples: list[Sample] = []

    async def command(self, act: Act) -> Act:
        self.did.append(" ".join(act.argv[:2]))
        await asyncio.sleep(0.01)
        self.samples.append(ANSWERED)
        if f"{self.did[-1]} is interrupted" in self.fails:  # Ctrl-C, as asyncio.run hands it on
            task = asyncio.current_task()
            assert task
            task.cancel()
            await asyncio.sleep(60)
        if self.did[-1] in self.fails:
            raise DemoFailed(f"`{self.did[-1]}` ended with 10, expected {act.exit_code}")
        return replace(act, run={})

    async def endpoint(self, _: Path) -> tuple[Endpoint, str, Path]:
        if "endpoint" in self.fails:
            raise KeyError("fronts")
        return Endpoint("127.0.0.1", 1, "time.local.test", None), "https://time.local.test:1/mcp", Path("ca.crt")


class StubTraffic:
    def __init__(self, stage: Stage) -> None:
        self.stage, self.samples = stage, stage.samples

    def start(self) -> None:
        self.stage.did.append("traffic on")

    async def stop(self) -> None:
        self.stage.did.append("traffic off")


class StubSessions:
    """A group; as the real one, `stop` raises for one that did not start."""

    def __init__(self, stage: Stage, plan: SessionPlan) -> None:
        self.stage = stage
        self.name = "old sdk" if ".venv-mcp1" in str(plan.python) else "new sdk"
        self.open = False

    async def start(self, timeout_s: float) -> None:
        await asyncio.sleep(0)
        if f"{self.name} start" in self.stage.fails:
            raise SessionsFailed("0 of 4 sessions open after 30.0 s; ['error: ConnectError']")
        self.open = True
        self.stage.did.append(f"{self.name} open")

    async def stop(self) -> SessionReport:
        reports = self.open and f"{self.name} stop" not in self.stage.fails
        await self.kill()
        if not reports:
            raise SessionsFailed("no summary (exit -9); []")
        return self.stage.report

    async def kill(self) -> None:
        if self.open:
            self.stage.did.append(f"{self.name} closed")
        self.open = False


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def go(stage: Stage, *, keep: bool = False) -> int:
        monkeypatch.setattr(run, "command", stage.command)
        monkeypatch.setattr(run, "endpoint", stage.endpoint)
        monkeypatch.setattr(run, "Traffic", lambda _: StubTraffic(stage))
        monkeypatch.setattr(run, "Sessions", lambda plan: StubSessions(stage, plan))
        return asyncio.run(play(tmp_path, keep=keep))

    return go


def is_over(stage: Stage) -> bool:
    """Whether clients ended, then everything was taken down, once, as the last thing."""
    clients = all(stage.did.count(f"{sdk} open") == stage.did.count(f"{sdk} closed") for sdk in ("old sdk", "new sdk"))
    load = stage.did.count("traffic on") == stage.did.count("traffic off")
    return clients and load and stage.did[-1] == "run teardown" and stage.did.count("run teardown") == 1


def test_a_demo_that_holds_ends_with_0_and_nothing_running(played: Any) -> None:
    stage = Stage()
    assert played(stage) == 0
    assert [what for what in stage.did if " " in what and "sdk" not in what] == [
        "run setup", "deploy time-2026.7.10", "traffic on", "deploy --blue-green", f"deploy {BROKEN}", "rollback --to",
        "traffic off", "run teardown",
    ]  # fmt: skip
    assert is_over(stage)


@pytest.mark.parametrize(
    "fails",
    [
        ("new sdk start",),
        ("old sdk start",),
        ("old sdk start", "new sdk start"),
        ("old sdk stop",),
        ("run setup",),
        ("deploy time-2026.7.10",),
        ("deploy --blue-green",),
        (f"deploy {BROKEN}", "new sdk stop"),
        ("rollback --to",),
    ],
    ids=" and ".join,
)
def test_whatever_fails_all_is_taken_down_and_the_reason_told(
    played: Any, fails: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(*fails)
    assert played(stage) == 1
    assert is_over(stage), stage.did
    said = " ".join(capsys.readouterr().err.split())
    assert "the demo failed: " in said
    assert ("sessions open" in said) or ("no summary" in said) or (f"`{fails[0]}` ended with 10" in said)


def test_a_bug_is_shown_as_one_and_all_is_taken_down(played: Any) -> None:
    stage = Stage("endpoint")
    with pytest.raises(KeyError):
        played(stage)
    assert is_over(stage)


def test_an_interrupted_demo_is_taken_down(played: Any) -> None:
    stage = Stage("deploy --blue-green is interrupted")
    with pytest.raises(asyncio.CancelledError):
        played(stage)
    assert is_over(stage)


def test_clients_that_did_nothing_fail_the_demo(played: Any) -> None:
    stage = Stage(report=replace(GOOD, opened=0, calls=0, errors=1000))
    assert played(stage) == 1
    assert is_over(stage)


def test_a_teardown_that_fails_fails_the_demo(played: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert played(Stage("run teardown")) == 1
    assert "the demo failed: `run teardown` ended with 10" in capsys.readouterr().err


def test_kept_means_kept(played: Any) -> None:
    stage = Stage()
    assert played(stage, keep=True) == 0
    assert "run teardown" not in stage.did
    assert stage.did[-1] == "traffic off"
