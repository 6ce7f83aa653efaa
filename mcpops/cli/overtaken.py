"""Whether a run may still be resumed: nobody else acted on its fronts since it stopped.

A resume takes a higher fence than whatever was there, so it must ask first: what a person on call put in force stays.
Who acted is on record here, for rollbacks of this project, and on the fronts. A front that gives no answer may be one
on which somebody acted; a host that answers and has no service, or no hostside, is none.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from mcpops.ansible.inventory import Inventory, targets
from mcpops.cli.wire import FRONTS, Workplace
from mcpops.core.clock import from_text
from mcpops.core.errors import McpopsError, Refused, Unknown
from mcpops.core.ids import new_fence
from mcpops.deploy.cutover import read_fronts
from mcpops.deploy.plan import taken_over
from mcpops.hostside.state import Context, not_set_up
from mcpops.model.run import Run
from mcpops.model.step import StepKind
from mcpops.model.target import Target
from mcpops.remote.fleet import Fleet

ANSWER_S = 10.0  # as long as the steps of the run wait


def require_not_overtaken(place: Workplace, run: Run, inventory: Inventory) -> None:
    """Raise Refused when a rollback or another run acted on a front since `run` stopped, Unknown when one is silent.

    `inventory` is that of the run's snapshot. A run that does not act on fronts may always go on.
    """
    if not acts_on_fronts(run, inventory):
        return
    rollbacks = sorted(_rollbacks(place, _last_attempt_at(run)))
    if rollbacks:
        raise Refused(
            f"a rollback began since run {run.id} stopped",
            detail="\n".join(f"run {rollback}" for rollback in rollbacks),
            hint=f"`mcpops status` shows what serves; `mcpops runs abandon {run.id} --yes`, then begin anew",
        )
    fronts = targets(inventory, FRONTS)
    tried = [attempt.fence for record in run.steps for attempt in record.attempts]
    with Fleet.open(fronts, ANSWER_S) as fleet:
        refusal = taken_over(read_fronts(fleet, fleet.greetings), run.id, max(tried, default=new_fence(run.started_at)))
        unheard = silent(fronts, fleet.errors)
    if refusal:
        raise refusal.error()
    if unheard:
        raise _unknown(run, unheard)


def acts_on_fronts(run: Run, inventory: Inventory) -> bool:
    """Whether a step of the run may act on a front; a pattern that is more than names of other hosts may. Pure."""
    fronts = set(inventory.groups.get(FRONTS, ()))
    acting = (record.step for record in run.steps if record.step.kind is not StepKind.GATE)
    return bool(fronts) and any(step.direct or not _is_elsewhere(step.hosts, inventory, fronts) for step in acting)


def _is_elsewhere(pattern: str, inventory: Inventory, fronts: set[str]) -> bool:
    known = {**{host: (host,) for host in inventory.hosts}, **inventory.groups}
    names = [name.strip() for name in re.split("[:,]", pattern)]
    return all(name in known and not fronts.intersection(known[name]) for name in names)


def _last_attempt_at(run: Run) -> datetime:
    tried = [attempt.intent_at for record in run.steps for attempt in record.attempts]
    return max(tried, default=run.started_at)


def _rollbacks(place: Workplace, since: datetime) -> Iterator[str]:
    """Yield the rollbacks of this environment that were at work after `since`: absorbed ones, and those without end."""
    absorbed = place.record.journal.runs(place.environment.name, sys.maxsize)
    yield from (run.id for run in absorbed if run.runbook == "rollback" and (run.ended_at or run.started_at) > since)
    for path in (place.environment.state / "rollbacks").glob("*.json"):
        if _is_open(path, since):
            yield path.stem


def _is_open(path: Path, since: datetime) -> bool:
    """Whether the record of a rollback has no end yet, so that the journal did not take it in."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return told["ended_at"] is None and from_text(told["started_at"]) > since
    except (OSError, ValueError, KeyError, TypeError):
        return False  # no record; the fronts tell


def silent(fronts: Sequence[Target], errors: Mapping[str, McpopsError]) -> list[McpopsError]:
    """Return the errors of fronts of which it is not known what is so there. Pure.

    A host that says that no service is set up there, or no hostside, is not one of them: nothing can have acted on it.
    """
    return [errors[front.name] for front in fronts if front.name in errors and not _is_bare(front, errors[front.name])]


def _is_bare(front: Target, error: McpopsError) -> bool:
    no_service = f"{front.name}: {not_set_up(Context(Path(front.state_dir))).message}"
    no_hostside = f"can't open file {front.hostside_path!r}: [Errno 2]"  # what the interpreter there says
    return error.message == no_service or no_hostside in error.detail


def _unknown(run: Run, unheard: Sequence[McpopsError]) -> Unknown:
    hosts = ", ".join(error.where for error in unheard)
    reasons = [": ".join(part for part in (error.message, error.detail, error.hint) if part) for error in unheard]
    return Unknown(
        f"no answer from {hosts}: nobody knows whether a rollback acted there since run {run.id} stopped",
        detail="\n".join(reasons),
        hint=f"resume it when all fronts answer; or `mcpops rollback` for those that do, then `mcpops runs abandon "
        f"{run.id} --yes`",
    )
