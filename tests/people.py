"""People with SSH keys, for tests of approvals."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from mcpops.core import sshsig
from mcpops.journal.approvals import decide, waits_at
from mcpops.model.run import Decision


@dataclass(frozen=True)
class Person:
    name: str
    key: Path

    @classmethod
    def make(cls, directory: Path, name: str, *options: str) -> Person:
        key = directory / f"id_{name.partition('@')[0]}"
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key), *options]
        subprocess.run(argv, check=True, capture_output=True)
        return cls(name, key)

    @property
    def line(self) -> str:
        """Their line in the file `approvers`."""
        kind, public = self.key.with_suffix(".pub").read_text().split()[:2]
        return f"{self.name} {kind} {public}\n"


def signed(run, person: Person | None, clock, *, decision="approve", by=None, lasts=timedelta(hours=1), **changes):
    """A decision on the gate that a run waits at, as `mcpops approve` makes it; without a person nobody signed it."""
    said = Decision(
        run_id=run.id, seq=waits_at(run), decision=decision, plan_digest=run.plan_digest, at=clock.now(),
        by=by or (person.name if person else ""), expires_at=clock.now() + lasts,
    )  # fmt: skip
    said = replace(said, **changes)
    return replace(said, signature=sshsig.sign(person.key, said.message())) if person else said


def decides(stand, person: Person | None = None, run_id="run-1", **settings) -> None:
    """Write a decision into the journal of a stand."""
    run = stand.journal.run(run_id)
    decide(stand.store, run, signed(run, person, stand.clock, **settings))
