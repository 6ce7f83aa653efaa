"""Chaos: workers are killed at random while they drive runs; nothing may overlap, be out of order, or act stale.

Plays are shell scripts here, not Ansible: what is on trial is who may act. Each script holds a lock on its
environment's file for as long as it lives (`flock`), so an overlap is seen by the kernel and not reckoned from times;
what it does is a line in a journal of its own, the "host".

Long form: `make chaos` (400 kills on each database); CI runs a short one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from mcpops.ansible.call import MARKER
from mcpops.ansible.reap import reap
from mcpops.cli import wake
from mcpops.core.clock import SystemClock
from mcpops.core.redaction import Redactor
from mcpops.engine.dispatch import Dispatcher
from mcpops.engine.drive import Driver, Executors, Listener
from mcpops.engine.execution import DONE, PROBE, StepContext
from mcpops.journal.queries import Journal
from mcpops.journal.seal import KeyFile
from mcpops.journal.store import Store
from mcpops.journal.writes import RunWriter, queue
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import Request, RunState
from mcpops.model.step import Step, StepKind

# One "play": it says that it begins, works for a while, says that it ends. 9 is the lock, for as long as it lives.
SCRIPT = """
exec 9>>"$HOST/$ENVIRONMENT.lock"
flock -n 9 || { echo "$ENVIRONMENT $RUN $STEP $FENCE overlap" >>"$HOST/log"; exit 0; }
echo "$ENVIRONMENT $RUN $STEP $FENCE begin" >>"$HOST/log"
sleep "$WORK"
echo "$ENVIRONMENT $RUN $STEP $FENCE end" >>"$HOST/log"
"""
ENVIRONMENTS = ("red", "green")
RUNS = 14
STEPS = 4
FAILING = {3: 2, 6: 3, 9: 1}  # run: the step that fails, and is taken back with those before it


@dataclass
class Setting:
    """What a round is played with."""

    where: Path | str
    home: Path
    reaping: bool = True
    work_s: tuple[float, float] = (0.05, 0.4)
    runs: int = RUNS
    # Reapers know runs by their ids: two rounds beside each other must not share any.
    token: str = field(default_factory=lambda: secrets.token_hex(4))

    def store(self) -> Store:
        return Store(self.where, KeyFile(self.home / "journal.key"))

    @property
    def log(self) -> list[list[str]]:
        return [line.split() for line in (self.home / "log").read_text().splitlines()]


class Play:
    """One try of one step as a process that does not die with its worker: what ends it is the reaper."""

    def __init__(self, context: StepContext, setting: Setting) -> None:
        self._context, self._setting = context, setting

    def prepare(self) -> None:
        """Need nothing."""

    def act(self) -> AttemptReport:
        context, setting = self._context, self._setting
        name = context.step.name.replace(" ", "-")
        environment = {
            "HOST": str(setting.home), "ENVIRONMENT": context.run.environment, "RUN": context.run.id, "STEP": name,
            "FENCE": str(context.fence), "WORK": f"{random.uniform(*setting.work_s):.2f}", "PATH": os.environ["PATH"],
            MARKER: f"{context.run.id}:{context.fence}:{context.number}",
        }  # fmt: skip
        with subprocess.Popen(["sh", "-c", SCRIPT], env=environment, start_new_session=True) as child:
            while child.poll() is None:
                if context.cancel.wait(0.02):
                    child.kill()
        if child.returncode:
            return AttemptReport(outcome=Outcome.UNKNOWN, reason=f"ended with {child.returncode}")
        number = int(context.run.id.rpartition("-")[2])
        if context.step.kind is StepKind.PLAY and name == f"step{FAILING.get(number)}":
            return AttemptReport(outcome=Outcome.FAILED, reason="it fails, as it should")
        row = Result(host="host", task=name, outcome=Outcome.CHANGED)
        return AttemptReport(outcome=Outcome.CHANGED, results=(row,))

    def close(self) -> None:
        """Hold nothing."""


class Looked(Play):
    """A probe, or the taking of all hosts: it looks into the host's journal, and does nothing."""

    def act(self) -> AttemptReport:
        name = self._context.step.name.removeprefix("probe ").replace(" ", "-")
        fails = name == f"step{FAILING.get(int(self._context.run.id.rpartition('-')[2]))}"
        ended = any(line[1:3] == [self._context.run.id, name] and line[4] == "end" for line in self._setting.log)
        row = Result(host="host", task="look", outcome=Outcome.OK)
        outputs = {PROBE: DONE} if ended and not fails else {}
        return AttemptReport(outcome=Outcome.OK, results=(row,), outputs=outputs)


def drive(setting: Setting, store: Store, run_id: str) -> None:
    """What `mcpops worker` does with a run, but for Ansible."""
    clock, journal = SystemClock(), Journal(store)
    run = journal.run(run_id)
    writer = RunWriter.take_over(store, clock, run.environment, run.id)
    if setting.reaping:
        reap(run.id, fence=writer.lease.fence - 1)
    executors = Executors(
        play=lambda context: Play(context, setting),
        probe=lambda context: Looked(context, setting),
        barrier=lambda context: Looked(context, setting),
        direct={},
        gates={},
        undo_play=lambda step: step.body,
    )
    Driver(journal, writer, executors, Listener(), Redactor([])).drive()


def work(setting: Setting) -> None:
    """Be a worker until killed: on PostgreSQL by procrastinate, as `mcpops worker` is."""
    store, stop = setting.store(), threading.Event()
    random.seed()
    dispatcher = Dispatcher(store, SystemClock(), lambda run_id: drive(setting, store, run_id), lambda _said: None)
    if isinstance(setting.where, Path):
        dispatcher.serve(stop, 0.05, lambda: None)
        return
    wake.SWEEP_S = 0.3

    def take(run_id: str) -> None:
        if run_id in dispatcher.runnable():
            dispatcher.take(run_id)

    while True:
        try:
            wake.serve(setting.where, take, dispatcher.runnable, stop)
        except Exception as error:  # noqa: BLE001 - told, and begun anew, as the real one
            print(f"worker: {error!r}", file=sys.stderr)
            time.sleep(0.2)


def spawn(setting: Setting) -> int:
    """Fork a worker: all is imported already, so that a worker is at work 20 ms later."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work(setting)
    except BaseException as error:  # noqa: BLE001 - a fork must never go on as its parent
        print(f"worker: {error!r}", file=sys.stderr)
    os._exit(1)


def fill(setting: Setting) -> None:
    """Queue the runs of a round."""
    store = setting.store()
    for n in range(setting.runs):
        steps = tuple(
            Step(name=f"step{k}", kind=StepKind.PLAY, hosts="all", body="", line=1, undo=True)
            for k in range(1, STEPS + 1)
        )
        request = Request(
            environment=ENVIRONMENTS[n % 2], runbook="chaos", parameters={}, requested_by="chaos",
            plan_digest="sha256:0", snapshot="/nowhere", steps=steps,
        )  # fmt: skip
        queue(store, SystemClock(), f"{setting.token}-{n:02}", request, b"")
    store.close()


@dataclass
class Played:
    """What came of a round."""

    kills: int = 0
    states: dict[str, str] = field(default_factory=dict)
    overlaps: int = 0
    stale: int = 0
    disorder: list[str] = field(default_factory=list)
    wrong: str | None = None
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        wanted = {run: "rolled_back" if int(run[-2:]) in FAILING else "done" for run in self.states}
        return bool(wanted) and self.states == wanted


def play(setting: Setting, *, workers: int, kill_every_s: float, limit_s: float) -> Played:
    """Play one round: kill a random worker again and again until all runs ended, or the time is over."""
    began_s, played = time.monotonic(), Played()
    (setting.home / "log").touch()
    fill(setting)
    store = setting.store()
    journal, pids = Journal(store), [spawn(setting) for _ in range(workers)]
    try:
        while time.monotonic() - began_s < limit_s:
            time.sleep(random.uniform(0.5, 1.5) * kill_every_s)
            victim = random.randrange(workers)
            os.kill(pids[victim], signal.SIGKILL)
            os.waitpid(pids[victim], 0)
            played.kills += 1
            pids[victim] = spawn(setting)
            played.states = {run.id: run.state.value for run in journal.runs(limit=99)}
            if all(RunState(state).ended for state in played.states.values()):
                break
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for run_id in played.states:
            reap(run_id, fence=sys.maxsize)
    played.seconds = time.monotonic() - began_s
    played.wrong = journal.verify({store.sealer.key})[1]
    store.close()
    judge(setting, played)
    return played


def judge(setting: Setting, played: Played) -> None:
    """Read the host's journal: it alone knows what was really done."""
    highest: dict[str, int] = defaultdict(int)
    reached: dict[str, int] = defaultdict(int)
    current: dict[str, str] = {}
    for environment, run, step, fence, what in setting.log:
        if what == "overlap":
            played.overlaps += 1
        if what != "begin":
            continue
        played.stale += int(fence) < highest[environment]
        highest[environment] = max(highest[environment], int(fence))
        if run < current.get(environment, ""):
            played.disorder.append(f"{run} after {current[environment]} in {environment}")
        current[environment] = run
        if step.startswith("undo"):
            reached[run] = STEPS + 1
            continue
        number = int(step.removeprefix("step"))
        if number not in (reached[run], reached[run] + 1):
            played.disorder.append(f"{run}: {step} after step{reached[run]}")
        reached[run] = max(reached[run], number)


def main() -> int:
    """Play rounds until there were enough kills; print one line a round, and the sum as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=400)
    parser.add_argument("--reaper", choices=["on", "off"], default="on")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgres"])
    wanted = parser.parse_args()
    from tests.servers import create_database, postgres  # noqa: PLC0415 - the server is for one of the two

    total: dict[str, dict[str, int]] = {}
    good = True
    for database in wanted.databases:
        kills = rounds = 0
        sums = defaultdict(int)
        with postgres() as url:
            while kills < wanted.kills:
                with tempfile.TemporaryDirectory(prefix="mcpops-chaos-") as name:
                    home = Path(name)
                    where = home / "j.sqlite" if database == "sqlite" else create_database(url, f"c{rounds}")
                    setting = Setting(where, home, reaping=wanted.reaper == "on")
                    done = play(setting, workers=3, kill_every_s=0.35, limit_s=240)
                rounds, kills = rounds + 1, kills + done.kills
                sums["overlaps"] += done.overlaps
                sums["stale"] += done.stale
                sums["disorder"] += len(done.disorder)
                sums["unfinished"] += not done.ended
                sums["unverified"] += done.wrong is not None
                said = f"{done.overlaps} overlaps, {done.stale} stale, {len(done.disorder)} out of order"
                states = "all ended as they should" if done.ended else f"NOT ALL ENDED {done.states}"
                print(f"{database} round {rounds}: {done.kills} kills in {done.seconds:.0f} s: {said}, {states}; "
                      f"{done.wrong or 'record verified'}", flush=True)  # fmt: skip
        total[database] = {"rounds": rounds, "kills": kills, **sums}
        good = good and not any(sums.values())
    print(json.dumps(total))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
