"""`mcpops run`: any runbook in playbooks/."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mcpops.cli.common import Session, common_options, plan_options

if TYPE_CHECKING:
    from mcpops.cli.plan import Plan
    from mcpops.cli.wire import Workplace


@click.command(epilog="Exit status: as `mcpops deploy`.")
@click.argument("runbook")
@click.option("-x", "pairs", multiple=True, metavar="KEY=VALUE", help="A variable of the runbook; may be repeated.")
@plan_options
@common_options
@click.pass_obj
def run(session: Session, runbook: str, pairs: tuple[str, ...], plan_only: bool, queue: bool, until: str | None) -> int:
    """Run RUNBOOK: the name of a playbook in playbooks/."""
    from mcpops.cli import ahead  # noqa: PLC0415

    ahead.begin(session)
    from mcpops.cli import plan, wire  # noqa: PLC0415

    place = wire.open_workplace(session)
    planned = plan.make_plan(place, runbook, plan.parse_parameters(pairs), until=until)
    return carry_out(session, place, planned, plan_only=plan_only, queue=queue)


def carry_out(session: Session, place: Workplace, plan: Plan, *, plan_only: bool, queue: bool) -> int:
    """Show a plan, leave it to a worker, or begin it."""
    from mcpops.cli import launch  # noqa: PLC0415

    if not plan_only:
        return (launch.enqueue if queue else launch.begin)(session, place, plan)
    from mcpops.cli.foresee import foresee  # noqa: PLC0415
    from mcpops.cli.plan import discard  # noqa: PLC0415

    try:
        vault = place.vault(plan.snapshot)
        project, local = place.environment.project, place.inventory.local
        seen = foresee(plan.steps, plan.parameters, plan.snapshot, project, vault, local=local)
    finally:
        discard(plan)
    session.emit(plan.to_json(seen), plan.text(seen))
    return 0
