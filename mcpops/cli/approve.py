"""`mcpops approve` and `mcpops reject`: a signed decision on the exact plan of a run that waits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcpops.cli.common import Session, common_options
from mcpops.core.errors import UsageError

if TYPE_CHECKING:
    from mcpops.cli.record import Record
    from mcpops.model.run import Decision, Run

LASTS = "24h"
OWN_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")  # as ssh(1) looks for them, newest kind first
KEY_HELP = "SSH key that signs: a private key, or the .pub of one that an agent holds (else the first in ~/.ssh)."


def own_key(named: Path | None) -> Path:
    """Return the key to sign with. Raises UsageError when there is none."""
    if named:
        return named
    home = Path("~/.ssh").expanduser()
    found = next((home / name for name in OWN_KEYS if (home / name).is_file()), None)
    if found is None:
        raise UsageError("no key to sign with", detail=f"looked at {home}", hint="name one with --key FILE")
    return found


def decide_signed(record: Record, run: Run, decision: str, key: Path | None, lasts_s: float) -> Decision:
    """Sign a decision on the plan of `run` with a person's key, and write it. Raises UsageError, Refused."""
    from dataclasses import replace  # noqa: PLC0415
    from datetime import timedelta  # noqa: PLC0415

    from mcpops.core import sshsig  # noqa: PLC0415
    from mcpops.engine import approvers  # noqa: PLC0415
    from mcpops.journal.approvals import decide, waits_at  # noqa: PLC0415
    from mcpops.model.run import Decision  # noqa: PLC0415

    seq = waits_at(run)
    file = approvers.approvers_file(record.project)
    if file is None:
        raise UsageError(
            "nobody may approve here: there is no file `approvers`",
            hint=f"{record.project / approvers.NAME}: {approvers.FORMAT_HINT}",
        )
    now = record.clock.now()
    unsigned = Decision(
        run_id=run.id,
        seq=seq,
        decision=decision,
        plan_digest=run.plan_digest,
        at=now,
        expires_at=now + timedelta(seconds=lasts_s) if decision == "approve" else None,
    )
    signature = sshsig.sign(own_key(key), unsigned.message())
    names = approvers.owners(unsigned.message(), signature, file)
    if decision == "approve":
        approvers.require_another(names, run.requested_by)
    signed = replace(unsigned, by=names[0], signature=signature)
    decide(record.store, run, signed)
    return signed


def _decide(session: Session, run_id: str, decision: str, key: Path | None, lasts: str = LASTS) -> int:
    from mcpops.cli.common import seconds  # noqa: PLC0415
    from mcpops.cli.record import open_record  # noqa: PLC0415

    record = open_record(session)
    run = record.journal.run(run_id)
    signed = decide_signed(record, run, decision, key, seconds(lasts))
    said = {"id": run.id, "seq": signed.seq, "decision": decision, "by": signed.by, "plan_digest": run.plan_digest}
    who = f"{decision} by {signed.by}: run {run.id}, plan {run.plan_digest}"
    after = "a worker goes on with it" if run.queued else f"`mcpops runs resume {run.id}`"
    session.report(said, f"{who}\nnext: {after}")
    return 0


@click.command(
    epilog="Exit status: 0 ok, 2 usage (it waits for no decision, no key), 9 refused (the requester decides, or the "
    "key is no approver's)."
)
@click.argument("run_id", metavar="RUN")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help=KEY_HELP)
@click.option("--for", "lasts", default=LASTS, show_default=True, metavar="TIME", help="How long the approval counts.")
@common_options
@click.pass_obj
def approve(session: Session, run_id: str, key: Path | None, lasts: str) -> int:
    """Approve the plan of a run that waits, signed with an SSH key; its requester cannot."""
    return _decide(session, run_id, "approve", key, lasts)


@click.command(epilog="Exit status: 0 ok, 2 usage (it waits for no decision, no key), 9 refused (no approver's key).")
@click.argument("run_id", metavar="RUN")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help=KEY_HELP)
@common_options
@click.pass_obj
def reject(session: Session, run_id: str, key: Path | None) -> int:
    """Reject the plan of a run that waits, signed with an SSH key; that is final."""
    return _decide(session, run_id, "reject", key)
