"""`mcpops run`: any runbook in playbooks/."""

from __future__ import annotations

import click

from mcpops.cli.common import Session, common_options


@click.command(epilog="Exit status: as `mcpops deploy`.")
@click.argument("runbook")
@click.option("-x", "pairs", multiple=True, metavar="KEY=VALUE", help="A variable of the runbook; may be repeated.")
@click.option("--plan", "only_plan", is_flag=True, help="Print the steps and their digest, and stop.")
@click.option("--until", metavar="STEP", help="Stop after this step.")
@common_options
@click.pass_obj
def run(session: Session, runbook: str, pairs: tuple[str, ...], only_plan: bool, until: str | None) -> int:
    """Run RUNBOOK: the name of a playbook in playbooks/."""
    from mcpops.cli import launch, wire  # noqa: PLC0415

    place = wire.open_workplace(session)
    plan = launch.make_plan(place, runbook, launch.parse_parameters(pairs), until=until)
    if only_plan:
        launch.discard(plan)
        session.emit(plan.to_json(), plan.text())
        return 0
    return launch.begin(session, place, plan)
