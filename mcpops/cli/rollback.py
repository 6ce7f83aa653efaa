"""`mcpops rollback`: for the person on call. No Ansible, no database, and no waiting for hosts that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mcpops.cli.common import Session, common_options

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from mcpops.cli.project import Environment
    from mcpops.core.errors import ExitCode
    from mcpops.deploy.plan import RollbackPlan
    from mcpops.deploy.record import RollbackRecord
    from mcpops.deploy.rollback import Rollback
    from mcpops.model.outcome import AttemptReport
    from mcpops.model.target import Target

# A host that is up answers in 0.3 s. Once one did, those that are silent for so long are not waited for any more;
# when none does, all get the longer time.
QUICK_S = 1.5
CONNECT_S = 10.0


@click.command(
    epilog="Exit status: 0 proved on every front, 1 a front failed, 2 usage, 3 a front could not be reached or "
    "proved, 8 a newer run took over, 9 no release to go back to."
)
@click.option("--to", metavar="RELEASE", help="Back to this release, not to the last verified one.")
@click.option("--sync", is_flag=True, help="Only bring fronts that were away to what the others serve.")
@click.option("--reason", metavar="TEXT", help="Why; it stands in the record, and in what is told.")
@common_options
@click.pass_obj
def rollback(session: Session, to: str | None, sync: bool, reason: str | None) -> int:
    """Go back to the last release whose verify passed, at once, on every front that answers.

    No approval and no freeze window stops it; it is recorded, and told on every channel that hears of `rollback`.
    """
    if to and sync:
        raise click.UsageError("--to and --sync exclude each other")
    from mcpops.cli.project import find_environment  # noqa: PLC0415 - --help needs none of it

    environment = find_environment(session)
    done, record = _do(session, environment, to, sync=sync, reason=reason)
    _tell(session, environment, done, record)
    return int(done.code)


def _do(
    session: Session, environment: Environment, to: str | None, *, sync: bool, reason: str | None
) -> tuple[Rollback, dict[str, Any]]:
    from mcpops.remote.fleet import Fleet  # noqa: PLC0415

    timeout_s = session.timeout_s or CONNECT_S
    # The channels get under way first: what is imported below costs nothing while they connect.
    with Fleet.start(_targets(session, environment), timeout_s) as fleet:
        from mcpops.core.clock import SystemClock  # noqa: PLC0415
        from mcpops.core.errors import Fenced  # noqa: PLC0415
        from mcpops.core.ids import new_run_id  # noqa: PLC0415
        from mcpops.core.person import whoami  # noqa: PLC0415
        from mcpops.deploy.record import RollbackRecord  # noqa: PLC0415
        from mcpops.deploy.rollback import Order, roll_back  # noqa: PLC0415
        from mcpops.model.outcome import AttemptReport, Outcome  # noqa: PLC0415

        clock = SystemClock()
        order = Order(run=new_run_id(clock.now()), to=to, sync=sync)
        directory, asked = environment.state / "rollbacks", {"to": to, "sync": sync}
        asked |= {"why": reason} if reason else {}
        record = RollbackRecord(directory, order.run, environment.name, whoami(), clock.now(), asked)
        notes = Notes(session, record)
        fleet.greet(timeout_s, QUICK_S)
        try:
            done = roll_back(fleet, order, now=clock.now, intend=lambda plan: notes.intend(plan, clock.now()))
        except Fenced as error:
            fenced = AttemptReport(outcome=Outcome.FAILED, reason=f"{error.message}; {error.detail}")
            notes.conclude(fenced, error.code, clock.now())
            raise
    return done, notes.conclude(done.report, done.code, clock.now())


class Notes:
    """Says and writes down what happens. A record that cannot be written is told, and stops nothing here."""

    def __init__(self, session: Session, record: RollbackRecord) -> None:
        self._session, self._record = session, record

    def intend(self, plan: RollbackPlan, at: datetime) -> None:
        """Say where it goes and on which hosts; then write it down."""
        say = self._session.say
        say(f"back to {plan.release} ({plan.activation.reasons[0]})")
        for move in plan.activation.moves:
            how = "stage it again, start it, " if move.needs_stage else "start it, " if move.needs_start else ""
            verb = "is there" if plan.activation.already else f"{how}switch to slot {move.slot}"
            say(f"  {move.host}: {move.from_release or 'nothing'} in {move.from_slot or 'no slot'}; {verb}")
        for host, why in plan.left_out.items():
            say(f"  {host}: NOT REACHED: {why}")
        try:
            self._record.intend(plan, at)
        except OSError as error:
            say(f"mcpops: warning: no record of this rollback: {error}")

    def conclude(self, report: AttemptReport, code: ExitCode, at: datetime) -> dict[str, Any]:
        """Write down what came of it; return the whole record, or nothing when it could not be written."""
        try:
            return self._record.conclude(report, code, at)
        except (OSError, KeyError) as error:
            self._session.say(f"mcpops: warning: the record of this rollback lacks its end: {error}")
            return {}


def _targets(session: Session, environment: Environment) -> list[Target]:
    """Return the fronts: the saved ones when the inventory is the same, else read anew; saved ones as a last resort."""
    from mcpops.cli.targets import fronts_of  # noqa: PLC0415
    from mcpops.core.errors import McpopsError  # noqa: PLC0415
    from mcpops.remote.targets import load_targets  # noqa: PLC0415

    try:
        return fronts_of(environment)
    except (McpopsError, ImportError, OSError) as error:
        saved = load_targets(environment.state / "targets.json", None)
        if not saved:
            raise
        session.say(f"mcpops: warning: the inventory cannot be read ({error}); using the fronts of the last run")
        return saved


def _tell(session: Session, environment: Environment, done: Rollback, record: dict[str, Any]) -> None:
    """Print the outcome: one sentence and one line a front, or the record as JSON."""
    cutover = done.report.outputs["cutover"]
    data = {**record, "cutover": cutover} if record else {"cutover": cutover, "reason": done.report.reason}
    session.report(data, _text(environment, done, _path(environment, record)))


def _path(environment: Environment, record: dict[str, Any]) -> Path | None:
    return environment.state / "rollbacks" / f"{record['id']}.json" if record else None


def _text(environment: Environment, done: Rollback, path: Path | None) -> str:
    release, good = done.plan.release, done.report.outcome.good
    proved = {row.host for row in done.report.results if row.task == "probe" and row.outcome.good}
    if done.plan.activation.already and good:
        head = f"{environment.name} is already on {release}: {done.plan.activation.reasons[0]}"
    elif good:
        head = f"{environment.name} is back on {release}, proved on {len(proved)} fronts"
    else:
        head = f"{environment.name}: {release} is NOT PROVED on every front"
    lines = [head, *(f"  {row.host}: {row.task}: {row.message}" for row in done.report.results if row.message)]
    if not good:
        lines.append("next: mcpops status; mcpops rollback --sync once the host is back")
    return "\n".join([*lines, f"record: {path}"] if path else lines)
