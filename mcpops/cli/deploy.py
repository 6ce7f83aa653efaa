"""`mcpops deploy`: stage a release beside the active one, prove it, switch, watch, drain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcpops.cli.common import Session, common_options, plan_options, seconds
from mcpops.core.errors import ExitCode

if TYPE_CHECKING:
    from mcpops.cli.plan import Plan
    from mcpops.cli.wire import Workplace

QUICK_S = 3.0  # for the question whether there is anything to do; a front that takes longer is left to the steps


@click.command(
    epilog="Exit status: 0 ok, 1 failed, 2 usage, 3 unknown, 4 busy, 5 rolled back, 6 waiting, 7 broken, "
    "8 fenced, 9 refused."
)
@click.argument("release")
@click.option("--blue-green", is_flag=True, expose_value=False, help="The only strategy for now, and the default.")
@click.option(
    "--bake",
    metavar="TIME",
    help="How long the new slot is watched under real traffic (else as the inventory says, else 60s).",
)
@click.option("--drain", metavar="TIME", help="How long sessions on the old slot get to end (900s).")
@click.option("--again", is_flag=True, help="Deploy even a release that serves already.")
@click.option(
    "--approve-by",
    type=click.Path(path_type=Path),
    metavar="KEY",
    help="SSH key of another person, who approves the plan as it comes to the gate.",
)
@plan_options
@common_options
@click.pass_obj
def deploy(
    session: Session,
    release: str,
    bake: str | None,
    drain: str | None,
    again: bool,
    approve_by: Path | None,
    plan_only: bool,
    queue: bool,
    until: str | None,
) -> int:
    """Deploy RELEASE: a name in releases/, or a release file."""
    from mcpops.cli import ahead  # noqa: PLC0415

    ahead.begin(session)
    from mcpops.cli import wire  # noqa: PLC0415 - SQLAlchemy and jsonschema cost 0.4 s of CPU
    from mcpops.cli.plan import make_plan  # noqa: PLC0415
    from mcpops.cli.run import carry_out  # noqa: PLC0415
    from mcpops.deploy.release import load_release  # noqa: PLC0415

    place = wire.open_workplace(session)
    loaded = load_release(place.environment.release_file(release))
    manifest = loaded.manifest()
    slot = None if again or plan_only or until else _serves(place, manifest["digest"])
    if slot:
        said = {"environment": place.environment.name, "release": loaded.name, "slot": slot, "already": True}
        session.emit(said, f"{loaded.name} serves already, on slot {slot}, and passed its bake; nothing was done")
        return 0
    parameters: dict[str, object] = {"release": manifest}
    parameters |= {"blue_green_bake_s": seconds(bake)} if bake else {}
    parameters |= {"blue_green_drain_s": seconds(drain)} if drain else {}
    # The run keeps its own copy of the release, so that a resume deploys what was planned.
    files = {f"release/{name}": text for name, text in loaded.contents.items()}
    files[f"release/{loaded.path.name}"] = loaded.path.read_text(encoding="utf-8")
    paths = {"release_file": f"release/{loaded.path.name}"}
    plan = make_plan(place, "deploy", parameters, files=files, paths=paths, until=until)
    if approve_by is None or plan_only or queue:
        return carry_out(session, place, plan, plan_only=plan_only, queue=queue)
    return _approved(session, place, plan, approve_by)


def _approved(session: Session, place: Workplace, plan: Plan, key: Path) -> int:
    """Begin a run; when it waits, approve it by the key of another person at this terminal, and go on with it."""
    from dataclasses import replace  # noqa: PLC0415

    from mcpops.cli import launch  # noqa: PLC0415
    from mcpops.cli.approve import LASTS, decide_signed  # noqa: PLC0415

    code, record = launch.begin(replace(session, background=True), place, plan), place.record
    if code is not ExitCode.WAITING:
        launch.say_end(session, place, plan.run_id)
        return int(code)
    run = record.journal.run(plan.run_id)
    decide_signed(record, run, "approve", key, seconds(LASTS))
    return launch.resume(session, place, record.journal.run(plan.run_id))


def _serves(place: Workplace, digest: str) -> str | None:
    """Return the slot on which every front serves exactly this release, verified and in order; else None.

    While another run holds the environment the answer is None: `begin` then says who it is.
    """
    from mcpops.cli.wire import FRONTS  # noqa: PLC0415
    from mcpops.remote.fleet import Fleet  # noqa: PLC0415

    if place.record.journal.lease(place.environment.name):
        return None
    with Fleet.open(place.targets(), QUICK_S) as fleet:
        said = [answer.output for answer in fleet.greetings.values()]
    slots = {front["active"] if _is_in_force(front, digest) else None for front in said}
    whole = len(said) == len(place.inventory.groups[FRONTS])
    return slots.pop() if whole and len(slots) == 1 else None


def _is_in_force(front: dict[str, Any], digest: str) -> bool:
    slot = front["slots"].get(front["active"]) or {}
    wanted = slot.get("digest") == digest and slot.get("verified_at") and slot.get("running")
    return bool(wanted and front["in_sync"] and front["phase"] == "steady")
