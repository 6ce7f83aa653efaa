"""Wiring: the one place where the rooms of mcpops are put together for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpops.ansible.inventory import Inventory, load_inventory, targets
from mcpops.ansible.vault import Vault, open_vault
from mcpops.cli.common import Session
from mcpops.cli.direct import SETTINGS as DIRECT_SETTINGS
from mcpops.cli.direct import direct_executors
from mcpops.cli.project import Environment, find_environment, find_project
from mcpops.cli.record import Record, open_journal
from mcpops.core.errors import UsageError
from mcpops.core.redaction import Redactor
from mcpops.engine.drive import Driver, Executors, Listener
from mcpops.engine.gates import SETTINGS, GateInputs, gate_executors
from mcpops.engine.plays import Place, play_executor, probe_executor
from mcpops.journal.writes import RunWriter
from mcpops.model.target import Target
from mcpops.remote.targets import save_targets
from mcpops.runbook.derive import probe_plays, undo_play
from mcpops.runbook.search import SearchPath

FRONTS = "fronts"  # the inventory group of the hosts that a deploy acts on
NAMES = (*SETTINGS, *DIRECT_SETTINGS)  # the variables of an inventory that gates and direct steps read


def open_record(session: Session) -> Record:
    """Open the journal of the session's project. Raises UsageError."""
    return open_journal(find_project(session))


@dataclass(frozen=True)
class Workplace:
    """What a run of an environment needs: where things are, and what the inventory says."""

    environment: Environment
    record: Record
    search: SearchPath
    inventory: Inventory

    def planned(self, snapshot: Path) -> Inventory:
        """Return the inventory as it was when a run was planned."""
        return load_inventory(snapshot / "inventory", self.environment.project, NAMES)

    def targets(self) -> list[Target]:
        """Return how to reach the fronts. Raises UsageError."""
        return targets(self.inventory, FRONTS)

    def vault(self, snapshot: Path) -> Vault:
        """Return what Ansible's vault keeps in a snapshot; raise UsageError when a run could not decrypt it."""
        return open_vault(snapshot, self.environment.project, self.environment.inventory)

    def driver(
        self, writer: RunWriter, listener: Listener, planned: Inventory, vault: Vault, *, timeout_s: float | None = None
    ) -> Driver:
        """Return the driver of a run, with the tables of how its steps are done.

        `planned` is the inventory of the run's snapshot: where the run acts, and with today's what its gates ask.
        `vault` is that of the snapshot too: its values are taken out of everything that the run tells.
        """
        record = self.record
        where = Place(vault, planned.local)
        inputs = [GateInputs(_settings(known), record.journal, record.clock) for known in (planned, self.inventory)]
        executors = Executors(
            play=play_executor(lambda step: step.body, where),
            probe=probe_executor(probe_plays, where),
            direct=direct_executors(
                lambda: targets(planned, FRONTS), [planned.variables[host] for host in planned.groups.get(FRONTS, ())]
            ),
            gates=gate_executors(inputs),
            undo_play=undo_play,
        )
        redactor = Redactor(secret.reveal() for secret in vault.secrets)
        return Driver(record.journal, writer, executors, listener, redactor, timeout_s=timeout_s)


def _settings(inventory: Inventory) -> dict[str, Any]:
    """Return the variables of the first front: what the environment asks of every deploy."""
    hosts = inventory.groups.get(FRONTS, ())
    return dict(inventory.variables[hosts[0]]) if hosts else {}


def open_workplace(session: Session) -> Workplace:
    """Find project and environment, read the inventory, and keep the targets for a rollback without Ansible."""
    environment = find_environment(session)
    record = open_record(session)
    inventory = load_inventory(environment.inventory, environment.project, NAMES)
    if inventory.groups.get(FRONTS):
        _keep_targets(environment, targets(inventory, FRONTS))
    return Workplace(environment, record, SearchPath.of(environment.project), inventory)


def _keep_targets(environment: Environment, fronts: Sequence[Target]) -> None:
    path = environment.state / "targets.json"
    try:
        save_targets(path, fronts, environment.inventory_digest())
    except OSError as error:
        hint = "make room there, or make it yours: a rollback reads it"
        raise UsageError("cannot be written", detail=str(error), hint=hint, where=str(path)) from error
