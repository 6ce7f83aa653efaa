"""`mcpops approve` and `mcpops reject`: a decision on the exact plan of a run that waits."""

from __future__ import annotations

import click

from mcpops.cli.common import Session, common_options


def _decide(session: Session, run_id: str, decision: str) -> int:
    from mcpops.cli import wire  # noqa: PLC0415
    from mcpops.core.person import whoami  # noqa: PLC0415
    from mcpops.journal.approvals import decide  # noqa: PLC0415

    record = wire.open_record(session)
    run = record.journal.run(run_id)
    seq = decide(record.store, record.clock, run, decision=decision, by=whoami())
    said = {"id": run.id, "seq": seq, "decision": decision, "by": whoami(), "plan_digest": run.plan_digest}
    session.report(said, f"{decision}: run {run.id}, plan {run.plan_digest}\nnext: `mcpops runs resume {run.id}`")
    return 0


@click.command(epilog="Exit status: 0 ok, 2 usage (it waits for no decision), 9 refused (the requester decides).")
@click.argument("run_id", metavar="RUN")
@common_options
@click.pass_obj
def approve(session: Session, run_id: str) -> int:
    """Approve the plan of a run that waits; its requester cannot."""
    return _decide(session, run_id, "approve")


@click.command(epilog="Exit status: 0 ok, 2 usage (it waits for no decision).")
@click.argument("run_id", metavar="RUN")
@common_options
@click.pass_obj
def reject(session: Session, run_id: str) -> int:
    """Reject the plan of a run that waits."""
    return _decide(session, run_id, "reject")
