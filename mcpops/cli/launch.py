"""Starting, queueing and resuming runs: begin, drive, and say how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcpops.ansible.inventory import Inventory
from mcpops.ansible.reap import reap
from mcpops.ansible.vault import Vault
from mcpops.cli.common import Session
from mcpops.cli.listen import listener
from mcpops.cli.overtaken import require_not_overtaken
from mcpops.cli.plan import Plan, discard, require_planned
from mcpops.cli.show import run_json, run_story, what_now
from mcpops.cli.wire import Workplace
from mcpops.core.errors import ExitCode, UsageError
from mcpops.core.person import whoami
from mcpops.journal.firings import Firing
from mcpops.journal.packed import pack, unpack
from mcpops.journal.writes import RunWriter, queue
from mcpops.model.run import Request, Run, RunState


def begin(session: Session, place: Workplace, plan: Plan, *, firing: Firing | None = None) -> ExitCode:
    """Begin a run of the plan and drive it to its end, or until it waits.

    `firing` is the time of the schedule that asked for it; raises AlreadyDecided when another scheduler had it.
    """
    try:
        vault = place.vault(plan.snapshot)
        request = _request(place, plan, firing)
        writer = RunWriter.begin(place.record.store, place.record.clock, plan.run_id, request, firing=firing)
    except Exception:
        discard(plan)
        raise
    session.say(f"run {plan.run_id}: {plan.runbook} in {place.environment.name}")
    return _drive(session, place, writer, place.inventory, vault)


def enqueue(session: Session, place: Workplace, plan: Plan, *, firing: Firing | None = None) -> ExitCode:
    """Write a run of the plan for a worker, with its files; raises AlreadyDecided as `begin`."""
    try:
        place.vault(plan.snapshot)  # a plan that no worker could decrypt is refused now
        tar = pack(plan.snapshot.parent)
        queue(place.record.store, place.record.clock, plan.run_id, _request(place, plan, firing), tar, firing=firing)
    finally:
        discard(plan)  # whoever drives it takes the files from the journal
    place.record.wake_workers(plan.run_id)
    said = {"id": plan.run_id, "state": RunState.QUEUED.value, "plan_digest": plan.digest}
    session.report(said, f"queued: run {plan.run_id}\nnext: `mcpops runs watch {plan.run_id}`")
    return ExitCode.OK


def _request(place: Workplace, plan: Plan, firing: Firing | None) -> Request:
    return Request(
        environment=place.environment.name,
        runbook=plan.runbook,
        parameters=plan.parameters,
        requested_by=f"schedule {firing.schedule}" if firing else whoami(),
        plan_digest=plan.digest,
        snapshot=str(plan.snapshot),
        steps=plan.steps,
        schedule=firing.schedule if firing else None,
    )


def resume(session: Session, place: Workplace, run: Run) -> ExitCode:
    """Go on with a run that was interrupted or waited, or begin one that is queued.

    Raises UsageError (it ended, its snapshot changed), Busy, Refused when a rollback or another run acted on a front
    since (what was planned, and perhaps approved, was meant for fronts that are no longer so), and Unknown when a front
    does not say whether that is so.
    """
    if run.state.ended:
        raise UsageError(f"run {run.id} is {run.state.value}; there is nothing to resume")
    run = _at_hand(place, run)
    require_planned(run)
    inventory = place.planned(Path(run.snapshot))
    if run.state is not RunState.QUEUED:
        require_not_overtaken(place, run, inventory)
    vault = place.vault(Path(run.snapshot))
    writer = RunWriter.take_over(place.record.store, place.record.clock, run.environment, run.id)
    ended = reap(run.id, fence=writer.lease.fence - 1)
    how = "begun" if run.state is RunState.QUEUED else "resumed"
    session.say(f"run {run.id}: {how}" + (f"; ended {ended} processes that it had left" if ended else ""))
    return _drive(session, place, writer, inventory, vault)


def _at_hand(place: Workplace, run: Run) -> Run:
    """Return a run whose files are on this machine: one that was queued elsewhere brings them in the journal.

    Raises UsageError when they are nowhere.
    """
    home = place.home(run.id)
    tar = place.record.journal.packed(run.id) if run.queued and not home.is_dir() else None
    if tar is not None:
        unpack(tar, home)
    return place.localized(run)


def finish(session: Session, place: Workplace, run_id: str) -> None:
    """Tell whoever is to hear of it how a run ended, and say so here."""
    place.record.tell_outside()
    place.record.anchor()
    say_end(session, place, run_id)


def say_end(session: Session, place: Workplace, run_id: str) -> None:
    """Say how a run ended: its object with --json, its story with -v, else a summary."""
    journal = place.record.journal
    run = journal.run(run_id)
    if session.json:
        session.report({**run_json(journal, run), **_cutover(run)}, "")
    else:
        session.report(None, run_story(journal, run) if session.verbose else summary(run))


def summary(run: Run) -> str:
    """Return the end of a run in a few lines."""
    lines = [f"{run.state.value}: run {run.id}" + (f": {run.reason}" if run.reason else "")]
    cutover = _cutover(run).get("cutover")
    if cutover:
        lines.append("cutover: " + ", ".join(f"{name} {value}" for name, value in cutover.items()))
    return "\n".join([*lines, f"next: {what_now(run) or f'`mcpops runs show {run.id}`'}"])


def _drive(session: Session, place: Workplace, writer: RunWriter, planned: Inventory, vault: Vault) -> ExitCode:
    run = place.localized(place.record.journal.run(writer.run_id))
    with listener(session) as shown:
        driver = place.driver(run, writer, shown, planned, vault, timeout_s=session.timeout_s)
        end = driver.drive()
    finish(session, place, writer.run_id)
    return end.exit_code


def _cutover(run: Run) -> dict[str, Any]:
    """Return what was observed of the switch, the bake and the drain, for `deploy --json`; nothing without a switch."""
    outputs = {name: value for record in run.steps for name, value in record.outputs.items() if not record.undo_of}
    if "cutover" not in outputs:
        return {}
    seen = dict(outputs["cutover"])
    if "bake" in outputs:
        seen["requests_failed"] = outputs["bake"]["requests_failed"]
    if "drained" in outputs:
        drains = list(outputs["drained"].values())
        moved = sum(drain["sessions"] for drain in drains)  # answered 404: their clients begin again on the new slot
        seen["sessions_moved"] = moved
        seen["sessions_drained"] = max(0, sum(drain["sessions_before"] for drain in drains) - moved)
    return {"cutover": seen}
