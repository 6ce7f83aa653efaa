"""Answers of the real code to a made-up record, for docs/reference/json.md. Nothing here is a measurement."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mcpops.cli.app import main
from mcpops.cli.launch import _cutover
from mcpops.cli.plan import Plan
from mcpops.core.errors import ExitCode
from mcpops.deploy.fleet_state import FrontState, KnownRelease, SlotState
from mcpops.deploy.plan import RollbackPlan, plan_rollback
from mcpops.deploy.record import RollbackRecord
from mcpops.journal.queries import Journal
from mcpops.journal.store import Store
from mcpops.journal.writes import RunWriter
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import Request, Run, RunState, StepState
from mcpops.model.step import Step, StepKind
from tests.people import Person

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RUN, WAITING = "20261124-120000-c0ffee", "20261124-121500-ace0fb"
DIGEST = "sha256:" + "…"
CUTOVER = {"hosts": 1, "switch_ms": 8.1, "skew_ms": 0.0, "intent_to_switch_ms": 21.4}
BAKE = {"hosts": 1, "requests_failed": 0}
DRAINED = {"front1": {"why": "deadline", "sessions_before": 12, "sessions": 2, "streams": 1, "took_s": 900.0}}
Sample = tuple[str, str, Any]


@dataclass
class StandingClock:
    """A clock that goes one second further at each look."""

    at: datetime = NOON

    def now(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at

    def monotonic_s(self) -> float:
        return self.at.timestamp()


def samples() -> list[Sample]:
    """Return title, text and value of each shape."""
    with tempfile.TemporaryDirectory() as directory:
        project = Path(directory)
        (project / "inventories/local").mkdir(parents=True)
        _write_journal(Store(project / ".mcpops/journal.sqlite"))
        shown = _say(project, "runs", "show", RUN)
        return [
            (
                "A run",
                "`runs show ID --json`, `runs export ID`, and the end of `runs watch ID --json`. `deploy --json`, "
                "`run --json` and `runs resume --json` print the same object, and `cutover` beside it when a switch "
                "was observed.",
                shown,
            ),
            (
                "Cutover",
                "What `deploy --json` adds. `skew_ms` is between the first and the last front, `intent_to_switch_ms` "
                "from the journalled intent to the last front's answer. `sessions_moved` got 404 at the end of the "
                "drain, `sessions_drained` ended before. `rollback --json` has the first four.",
                _observed(Journal(Store(project / ".mcpops/journal.sqlite")).run(RUN)),
            ),
            ("List of runs", "`runs list --json`, the newest first.", _say(project, "runs", "list")),
            (
                "Plan",
                "`deploy --plan --json` and `run --plan --json`.",
                _plan(),
            ),
            ("Rollback", "`rollback --json`: the record that it wrote, and `cutover`.", _rollback(project)),
            ("Status", "`status --json`. `fronts` has one object a front.", _status()),
            ("Decision", "`approve RUN --json` and `reject RUN --json`.", _decision(project)),
            ("Journal", "`journal verify --json`.", _say(project, "journal", "verify")),
            ("Errors", "Any command, with the same exit code as without `--json`.", _say(project, "runs", "show", "x")),
        ]


def _say(project: Path, *argv: str) -> Any:
    """Return what a command line prints with --json."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        main([*argv, "-C", str(project), "--json"])
    return _tidy(json.loads(out.getvalue()))


def _tidy(value: Any) -> Any:
    """Take digests and this machine's paths out."""
    text = re.sub(r"sha256:[0-9a-f]{64}", DIGEST, json.dumps(value, ensure_ascii=False))
    return json.loads(re.sub(re.escape(tempfile.gettempdir()) + r"/[^/\"]+", "/srv/project", text))


def _write_journal(store: Store) -> None:
    """Write a deploy that went well, cut to two steps, and one that waits."""
    stage = Step(name="stage", kind=StepKind.PLAY, hosts="fronts", body="", line=1, undo=True)
    cutover = Step(name="cutover", kind=StepKind.PLAY, hosts="fronts", body="", line=9, direct="cutover", undo=True)
    clock = StandingClock()
    done = RunWriter.begin(store, clock, RUN, _request((stage, cutover)))
    staged = Result(host="front1", task="Stage the release in slot green", outcome=Outcome.CHANGED, duration_ms=5200)
    message = "time-2 in green, generation 2, switched in 8.1 ms"
    switched = Result(host="front1", task="activate slot green", outcome=Outcome.CHANGED, message=message)
    for seq, result, outputs in ((1, staged, {}), (2, switched, {"cutover": CUTOVER})):
        done.intend(seq, 1)
        report = AttemptReport(outcome=Outcome.CHANGED, results=(result,), outputs=outputs, duration_s=5.2)
        done.conclude(seq, 1, report)
    done.end(RunState.DONE, ExitCode.OK, "")
    gate = Step(name="approval", kind=StepKind.GATE, hosts="fronts", body="", line=1, gate="approval")
    waits = RunWriter.begin(store, clock, WAITING, _request((gate,)))
    waits.set_step(1, StepState.WAITING, why="approval")
    waits.end(RunState.WAITING, ExitCode.WAITING, "approval of the plan by somebody else than alice")


def _request(steps: tuple[Step, ...]) -> Request:
    return Request(
        environment="local", runbook="deploy", parameters={}, requested_by="alice", plan_digest=DIGEST, snapshot="",
        steps=steps,
    )  # fmt: skip


def _plan() -> dict[str, Any]:
    step = Step(name="stage", kind=StepKind.PLAY, hosts="fronts", body="", line=1, undo=True)
    return Plan(RUN, "deploy", (step,), {"release": {"name": "time-2"}}, Path(), DIGEST).to_json()


def _observed(run: Run) -> dict[str, Any]:
    """Return what a deploy says of its switch once its bake and drain are done too."""
    done = run.steps[-1]
    more = [replace(done, outputs={"bake": BAKE}), replace(done, outputs={"drained": DRAINED})]
    return _cutover(replace(run, steps=(*run.steps, *more)))


def _decision(project: Path) -> Any:
    bob = Person.make(project, "bob@example.com")
    (project / "approvers").write_text(bob.line)
    return _say(project, "approve", WAITING, "--key", str(bob.key))


def _rollback(project: Path) -> dict[str, Any]:
    plan = plan_rollback([_front()], now=NOON, to="time-1", unreachable={"front2": "front2: no answer within 3 s"})
    assert isinstance(plan, RollbackPlan), plan
    record = RollbackRecord(project, RUN, "local", "alice", NOON, {"to": "time-1", "sync": False})
    record.intend(plan, NOON)
    message = "time-1 in blue, generation 3, switched in 8.1 ms"
    row = Result(host="front1", task="activate slot blue", outcome=Outcome.CHANGED, message=message, duration_ms=9)
    lost = Result(host="front2", task="take part", outcome=Outcome.UNREACHABLE, message="front2: no answer within 3 s")
    report = AttemptReport(
        outcome=Outcome.UNREACHABLE, reason="front2: take part: front2: no answer within 3 s", results=(row, lost),
        outputs={"cutover": CUTOVER, "release": "time-1"}, duration_s=3.2,
    )  # fmt: skip
    said = record.conclude(report, ExitCode.UNKNOWN, NOON + timedelta(seconds=3.2))
    return dict(_tidy({**said, "cutover": CUTOVER}))


def _front() -> FrontState:
    slots = {"blue": SlotState(release="time-1", running=False), "green": SlotState(release="time-2", running=True)}
    known = (KnownRelease(name="time-1", digest=DIGEST, verified_at="2026-11-24T11:00:00.000Z"),)
    return FrontState(host="front1", active="green", generation=2, slots=slots, releases=known, front={})


class _Fleet:
    """Two fronts: one answers, one does not."""

    def __init__(self) -> None:
        from mcpops.remote.channel import Unreachable  # noqa: PLC0415

        self.greetings = {"front1": _Answer(_hostside_status())}
        self.errors = {"front2": Unreachable("front2", "front2: no answer within 10 s")}


@dataclass(frozen=True)
class _Answer:
    output: dict[str, Any]


def _hostside_status() -> dict[str, Any]:
    slot = {"release": "time-2", "sessions": 12, "streams": 4, "running": True}
    return {
        "active": "green", "release": "time-2", "generation": 2, "phase": "steady", "proxy": True, "in_sync": True,
        "slots": {"green": slot, "blue": {"release": "time-1", "sessions": 0, "streams": 0, "running": False}},
        "activations": [{"at": "2026-11-24T12:00:04.000Z"}],
        "front": {"url": "https://192.0.2.1:443", "server_name": "time.example", "mcp_path": "/mcp", "ca_pem": "…"},
    }  # fmt: skip


def _status() -> dict[str, Any]:
    from mcpops.cli.status import _certificate, _fronts  # noqa: PLC0415
    from mcpops.tls.served import Served  # noqa: PLC0415

    lease = {"run": RUN, "doing": "runbook deploy", "holder": "control", "since": "2026-11-24T12:00:01.000Z"}
    lease |= {"fence": 1795521601000, "interrupted": False}
    run = {"id": RUN, "runbook": "deploy", "state": "running", "interrupted": False}
    run |= {"started_at": "2026-11-24T12:00:01.000Z"}
    later = {"backups": [], "schedules": [], "overdue": []}
    ends = datetime.now(UTC) + timedelta(days=61, hours=1)
    served = [_certificate("front1", Served("time.example", "https://192.0.2.1:443", True, ends), datetime.now(UTC))]
    acts = {"lease": lease, "locked_by": None, "runs": [run], "journal_error": None}
    return {"environment": "local", **_fronts(_Fleet()), **acts, **later, "certificates": served}  # type: ignore[arg-type]


def names(value: Any) -> Iterator[str]:
    """Yield every key in a JSON value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from names(item)
    elif isinstance(value, list):
        for item in value:
            yield from names(item)
