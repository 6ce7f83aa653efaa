"""Plans: what a run would do, cut from a copy of the project, with the digest that an approval is bound to."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mcpops.cli.foresee import Foreseen
from mcpops.cli.wire import KEPT, Workplace
from mcpops.core.canonical import digest
from mcpops.core.errors import UsageError
from mcpops.core.files import write_atomic
from mcpops.core.ids import new_run_id
from mcpops.core.tree import tree_digest
from mcpops.engine import approvers
from mcpops.engine.drive import undo_step
from mcpops.model.run import Run
from mcpops.model.step import Step, StepKind
from mcpops.runbook.derive import undo_play
from mcpops.runbook.load import load_runbook
from mcpops.runbook.snapshot import snapshot


@dataclass(frozen=True)
class Plan:
    """What would be done, exactly: the steps, their hosts, and the digest that an approval is bound to.

    `digest` covers the tree (roles, plugins, inventory, what the vault keeps as it is encrypted), the files and
    parameters of the run, and the steps.
    """

    run_id: str
    runbook: str
    steps: tuple[Step, ...]
    parameters: Mapping[str, Any]
    snapshot: Path
    digest: str

    def text(self, foreseen: Foreseen | None = None) -> str:
        """Return the plan as a person reads it."""
        lines = [f"runbook {self.runbook}, plan {self.digest}"]
        for n, step in enumerate(self.steps, 1):
            hosts = foreseen.hosts.get(step.hosts) if foreseen else None
            which = step.hosts + (f" = {', '.join(hosts) or 'NO HOST'}" if hosts is not None else "")
            lines.append(f"  {n:2} {step.name:<16} {step.direct or step.gate or 'ansible':<10} {which}{_marks(step)}")
            lines += [f"        {line}" for line in (foreseen.lines(step.name) if foreseen else ())]
        return "\n".join(lines)

    def to_json(self, foreseen: Foreseen | None = None) -> dict[str, Any]:
        """Return the plan as JSON."""
        keys = ("name", "kind", "hosts", "gate", "direct", "undo", "commits", "timeout_s")
        steps = [{key: asdict(step)[key] for key in keys} for step in self.steps]
        if foreseen:
            steps = [{**row, **foreseen.to_json(row["name"], row["hosts"])} for row in steps]
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
    run_id: str | None = None,
) -> Plan:
    """Copy what the run will use, cut the runbook from the copy, and digest all of it.

    `files` (name: text) are kept beside the snapshot; `paths` (variable: name) tell the plays where; `run_id` is given
    where the run has a name already. Raises UsageError, and then leaves no copy behind.
    """
    # Two schedulers may plan the run of one time at once: each copies into a directory of its own.
    home = place.home(f"{run_id}.{secrets.token_hex(3)}") if run_id else None
    run_id = run_id or new_run_id(place.record.clock.now())
    home = home or place.home(run_id)
    with _whole_or_nothing(home):
        source = place.search.find_runbook(runbook)
        # Errors name the file that a person edits, not its copy.
        _until(load_runbook(source, place.search.roles_path).steps, until)
        tree = snapshot(place.search, place.environment.inventory, home / "snapshot")
        book = load_runbook(home / "snapshot" / "playbooks" / source.name, (home / "snapshot" / "roles",))
        approving = approvers.approvers_file(place.environment.project)
        kept = {approvers.NAME: approving.read_text(encoding="utf-8")} if approving else {}
        for name, text in {**kept, **(files or {})}.items():
            write_atomic(home / KEPT / name, text)
        steps = _until(book.steps, until)
        named = {
            **parameters,
            **{variable: str(home / KEPT / name) for variable, name in (paths or {}).items()},
            "mcpops_project": str(place.environment.project),
        }
        found = plan_digest(tree, home, named, steps)
    return Plan(run_id, source.stem, steps, named, home / "snapshot", found)


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


def plan_digest(tree: str, home: Path, parameters: Mapping[str, Any], steps: Sequence[Step]) -> str:
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


def require_planned(run: Run) -> None:
    """Raise UsageError when what the run uses is not what was planned, and perhaps approved."""
    home = Path(run.snapshot).parent
    planned = [record.step for record in run.steps if record.step.kind is not StepKind.UNDO]
    found, why = "", f"{home} changed since"
    try:
        found = plan_digest(tree_digest(home / "snapshot"), home, run.parameters, planned)
        taken_back = {record.seq: record.step for record in run.steps}
        undone = [record for record in run.steps if record.undo_of]
        if any(record.step != undo_step(taken_back[record.undo_of or 0], undo_play) for record in undone):
            found, why = "", "an undo step is not the one that its step calls for"
    except (OSError, UnicodeError, KeyError) as error:
        why = str(error)
    if found != run.plan_digest:
        raise UsageError(
            f"the snapshot of run {run.id} is not what was planned",
            detail=why,
            hint=f"`mcpops runs abandon {run.id} --yes`, and start again",
        )


def discard(plan: Plan) -> None:
    """Remove what a plan copied, when no run came of it."""
    shutil.rmtree(plan.snapshot.parent, ignore_errors=True)


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


def _until(steps: Sequence[Step], name: str | None) -> tuple[Step, ...]:
    if name is None:
        return tuple(steps)
    names = [step.name for step in steps]
    if name not in names:
        raise UsageError(f"no step {name!r} in the runbook", hint=f"steps: {', '.join(names)}")
    return tuple(steps[: names.index(name) + 1])


def _marks(step: Step) -> str:
    return "".join(f"  [{word}]" for word, on in (("undo", step.undo), ("commits", step.commits)) if on)
