"""Wiring: the one place where the rooms of mcpops are put together for the command line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpops.ansible.inventory import Inventory, load_inventory, targets
from mcpops.ansible.vault import Vault, open_vault
from mcpops.cli.common import Session
from mcpops.cli.direct import SETTINGS as DIRECT_SETTINGS
from mcpops.cli.direct import direct_executors
from mcpops.cli.project import Environment, find_environment
from mcpops.cli.record import Record, open_record
from mcpops.core.errors import UsageError
from mcpops.core.redaction import Redactor
from mcpops.engine import approvers
from mcpops.engine.drive import Driver, Executors, Listener
from mcpops.engine.gates import SETTINGS, GateInputs, gate_executors
from mcpops.engine.plays import Place, barrier_executor, play_executor, probe_executor
from mcpops.journal.packed import relocated
from mcpops.journal.writes import RunWriter
from mcpops.model.run import Run
from mcpops.model.target import Target
from mcpops.remote.targets import save_targets
from mcpops.runbook.derive import probe_plays, undo_play
from mcpops.runbook.search import SearchPath

KEPT = "files"  # beside the snapshot of a run: files that were given to it, such as its release
FRONTS = "fronts"  # the inventory group of the hosts that a deploy acts on
NAMES = (*SETTINGS, *DIRECT_SETTINGS)  # the variables of an inventory that gates and direct steps read


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
        self,
        run: Run,
        writer: RunWriter,
        listener: Listener,
        planned: Inventory,
        vault: Vault,
        *,
        timeout_s: float | None = None,
    ) -> Driver:
        """Return the driver of `run`, with the tables of how its steps are done.

        `planned` is the inventory of the run's snapshot: where the run acts, and with today's what its gates ask.
        `vault` is that of the snapshot too: its values are taken out of everything that the run tells.
        """
        record = self.record
        where = self._place(planned, vault)
        inputs = self._gate_inputs(run, planned)
        executors = Executors(
            play=play_executor(lambda step: step.body, where),
            probe=probe_executor(probe_plays, where),
            barrier=barrier_executor(where),
            direct=direct_executors(
                lambda: targets(planned, FRONTS), [planned.variables[host] for host in planned.groups.get(FRONTS, ())]
            ),
            gates=gate_executors(inputs),
            undo_play=undo_play,
        )
        redactor = Redactor(secret.reveal() for secret in vault.secrets)
        return Driver(
            record.journal, writer, executors, listener, redactor, timeout_s=timeout_s, localize=self.localized
        )

    def localized(self, run: Run) -> Run:
        """Return a run with its files where they are on this machine: one that was queued may come from elsewhere."""
        return relocated(run, self.home(run.id), self.environment.project) if run.queued else run

    def home(self, run_id: str) -> Path:
        """Return where the files of a run are kept."""
        return self.environment.state / "runs" / run_id

    def _place(self, planned: Inventory, vault: Vault) -> Place:
        environment = self.environment
        scope = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{self.record.settings.name}.{environment.name}")
        here = hashlib.sha256(str(environment.project.resolve()).encode()).hexdigest()[:12]
        homes = (planned.variables[host].get("service_state_dir") for host in planned.groups.get(FRONTS, ()))
        beside = tuple(dict.fromkeys(f"{home}/fence" for home in homes if home))
        return Place(vault, planned.local, scope, f"{scope}.{here}", beside)

    def _gate_inputs(self, run: Run, planned: Inventory) -> list[GateInputs]:
        """Return what gates decide from: as the run was planned, and as it is today."""
        record, kept = self.record, Path(run.snapshot).parent / KEPT / approvers.NAME
        then = GateInputs(
            _settings(planned), record.journal, record.clock, kept if kept.is_file() else None, planned=True
        )
        today = approvers.approvers_file(self.environment.project)
        return [then, GateInputs(_settings(self.inventory), record.journal, record.clock, today)]


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
