"""Starting and resuming runs: plan, begin, drive, and say how it ended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mcpops.ansible.inventory import Inventory
from mcpops.ansible.reap import reap
from mcpops.ansible.vault import Vault
from mcpops.cli.common import Session
from mcpops.cli.listen import listener
from mcpops.cli.overtaken import require_not_overtaken
from mcpops.cli.show import run_json, run_story, what_now
from mcpops.cli.wire import Workplace
from mcpops.core.canonical import digest
from mcpops.core.errors import ExitCode, UsageError
from mcpops.core.files import write_atomic
from mcpops.core.ids import new_run_id
from mcpops.core.person import whoami
from mcpops.core.tree import tree_digest
from mcpops.engine.decide import End
from mcpops.journal.writes import RunWriter
from mcpops.model.run import Request, Run
from mcpops.model.step import Step, StepKind
from mcpops.runbook.load import load_runbook
from mcpops.runbook.snapshot import snapshot

KEPT = "files"  # beside the snapshot of a run: files that were given to it, such as its release


@dataclass(frozen=True)
class Plan:
    """What would be done, exactly: the steps, their hosts, and the digest that an approval is bound to."""

    run_id: str
    runbook: str
    steps: tuple[Step, ...]
    parameters: Mapping[str, Any]
    snapshot: Path
    digest: str

    def text(self) -> str:
        """Return the plan as a person reads it."""
        rows = [
            f"  {n:2} {step.name:<16} {step.direct or step.gate or 'ansible':<10} {step.hosts}{_marks(step)}"
            for n, step in enumerate(self.steps, 1)
        ]
        return "\n".join([f"runbook {self.runbook}, plan {self.digest}", *rows])

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        keys = ("name", "kind", "hosts", "gate", "direct", "undo", "commits", "timeout_s")
        steps = [{key: asdict(step)[key] for key in keys} for step in self.steps]
        return {
            "runbook": self.runbook,
            "plan_digest": self.digest,
            "parameters": dict(self.parameters),
            "steps": steps,
        }


def make_plan(
    place: Workplace,
    runbook: str,
    parameters: Mapping[str, Any],
    *,
    files: Mapping[str, str] | None = None,
    paths: Mapping[str, str] | None = None,
    until: str | None = None,
) -> Plan:
    """Copy what the run will use, cut the runbook from the copy, and digest all of it.

    `files` (name: text) are kept beside the snapshot; `paths` (variable: name) tell the plays where. Raises UsageError,
    and then leaves no copy behind.
    """
    run_id = new_run_id(place.record.clock.now())
    home = place.environment.state / "runs" / run_id
    with _whole_or_nothing(home):
        source = place.search.find_runbook(runbook)
        # Errors name the file that a person edits, not its copy.
        _until(load_runbook(source, place.search.roles_path).steps, until)
        tree = snapshot(place.search, place.environment.inventory, home / "snapshot")
        book = load_runbook(home / "snapshot" / "playbooks" / source.name, (home / "snapshot" / "roles",))
        for name, text in (files or {}).items():
            write_atomic(home / KEPT / name, text)
        steps = _until(book.steps, until)
        named = {
            **parameters,
            **{variable: str(home / KEPT / name) for variable, name in (paths or {}).items()},
            "mcpops_project": str(place.environment.project),
        }
        plan_digest = _plan_digest(tree, home, named, steps)
    return Plan(run_id, source.stem, steps, named, home / "snapshot", plan_digest)


@contextmanager
def _whole_or_nothing(home: Path) -> Iterator[None]:
    """Remove what a run would have used when it cannot be made; say it as UsageError when a file was the reason."""
    try:
        yield
    except BaseException as error:
        shutil.rmtree(home, ignore_errors=True)
        if isinstance(error, (OSError, UnicodeError)):
            hint = "mend or remove that file; a name must be UTF-8"
            raise UsageError("the project cannot be copied for the run", detail=str(error), hint=hint) from error
        raise


def _plan_digest(tree: str, home: Path, parameters: Mapping[str, Any], steps: Sequence[Step]) -> str:
    """Return the digest of what a run does: the tree, the files kept with it, the parameters, the steps.

    Paths of this very run are left out, so that the same plan has the same digest.
    """
    own = {name for name, value in parameters.items() if str(value).startswith(f"{home}/")} | {"mcpops_project"}
    return digest(
        {
            "tree": tree,
            "parameters": {name: value for name, value in parameters.items() if name not in own},
            "files": tree_digest(home / KEPT),
            "steps": [asdict(step) for step in steps],
        }
    )


def begin(session: Session, place: Workplace, plan: Plan) -> ExitCode:
    """Begin a run of the plan and drive it to its end, or until it waits."""
    request = Request(
        environment=place.environment.name,
        runbook=plan.runbook,
        parameters=plan.parameters,
        requested_by=whoami(),
        plan_digest=plan.digest,
        snapshot=str(plan.snapshot),
        steps=plan.steps,
    )
    try:
        vault = place.vault(plan.snapshot)
        writer = RunWriter.begin(place.record.store, place.record.clock, plan.run_id, request)
    except Exception:
        discard(plan)
        raise
    session.say(f"run {plan.run_id}: {plan.runbook} in {place.environment.name}")
    return _drive(session, place, writer, place.inventory, vault)


def discard(plan: Plan) -> None:
    """Remove what a plan copied, when no run came of it."""
    shutil.rmtree(plan.snapshot.parent, ignore_errors=True)


def resume(session: Session, place: Workplace, run: Run) -> ExitCode:
    """Go on with a run that was interrupted or waited.

    Raises UsageError (it ended, its snapshot changed), Busy, Refused when a rollback or another run acted on a front
    since (what was planned, and perhaps approved, was meant for fronts that are no longer so), and Unknown when a front
    does not say whether that is so.
    """
    if run.state.ended:
        raise UsageError(f"run {run.id} is {run.state.value}; there is nothing to resume")
    _require_planned(run)
    inventory = place.planned(Path(run.snapshot))
    require_not_overtaken(place, run, inventory)
    vault = place.vault(Path(run.snapshot))
    writer = RunWriter.take_over(place.record.store, place.record.clock, run.environment, run.id)
    ended = reap(run.id, fence=writer.lease.fence - 1)
    session.say(f"run {run.id}: resumed" + (f"; ended {ended} processes that it had left" if ended else ""))
    return _drive(session, place, writer, inventory, vault)


def _require_planned(run: Run) -> None:
    """Raise UsageError when what the run uses is not what was planned, and perhaps approved."""
    home = Path(run.snapshot).parent
    planned = [record.step for record in run.steps if record.step.kind is not StepKind.UNDO]
    found, why = "", f"{home} changed since"
    try:
        found = _plan_digest(tree_digest(home / "snapshot"), home, run.parameters, planned)
    except (OSError, UnicodeError) as error:
        why = str(error)
    if found != run.plan_digest:
        raise UsageError(
            f"the snapshot of run {run.id} is not what was planned",
            detail=why,
            hint=f"`mcpops runs abandon {run.id} --yes`, and start again",
        )


def finish(session: Session, place: Workplace, run_id: str, end: End) -> ExitCode:
    """Say how a run ended: its story on stderr, its object on stdout."""
    journal = place.record.journal
    run = journal.run(run_id)
    if session.json:
        session.report({**run_json(journal, run), **_cutover(run)}, "")
    else:
        session.report(None, run_story(journal, run) if session.verbose else summary(run, end))
    return end.exit_code


def summary(run: Run, end: End) -> str:
    """Return the end of a run in a few lines."""
    lines = [f"{end.state.value}: run {run.id}" + (f": {end.reason}" if end.reason else "")]
    cutover = _cutover(run).get("cutover")
    if cutover:
        lines.append("cutover: " + ", ".join(f"{name} {value}" for name, value in cutover.items()))
    return "\n".join([*lines, f"next: {what_now(run) or f'`mcpops runs show {run.id}`'}"])


def parse_parameters(pairs: Sequence[str]) -> dict[str, str]:
    """Return -x KEY=VALUE pairs as a dictionary. Raises UsageError."""
    parameters: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            # The value may be a secret: it is not shown.
            said = f"{key!r}=…" if equals else repr(key)
            raise UsageError(f"-x {said} is not KEY=VALUE", hint="KEY is a variable name of the runbook")
        parameters[key] = value
    return parameters


def _drive(session: Session, place: Workplace, writer: RunWriter, planned: Inventory, vault: Vault) -> ExitCode:
    with listener(session) as shown:
        end = place.driver(writer, shown, planned, vault, timeout_s=session.timeout_s).drive()
    return finish(session, place, writer.run_id, end)


def _until(steps: Sequence[Step], name: str | None) -> tuple[Step, ...]:
    if name is None:
        return tuple(steps)
    names = [step.name for step in steps]
    if name not in names:
        raise UsageError(f"no step {name!r} in the runbook", hint=f"steps: {', '.join(names)}")
    return tuple(steps[: names.index(name) + 1])


def _marks(step: Step) -> str:
    return "".join(f"  [{word}]" for word, on in (("undo", step.undo), ("commits", step.commits)) if on)


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
