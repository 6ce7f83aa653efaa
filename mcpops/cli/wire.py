"""Wiring: the one place where the rooms of mcpops are put together for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpops.ansible.inventory import Inventory, load_inventory, targets, tree_digest
from mcpops.cli.common import Session
from mcpops.cli.direct import direct_executors
from mcpops.cli.project import STATE, Environment, find_environment, find_project, journal_path
from mcpops.core.clock import Clock, SystemClock
from mcpops.engine.drive import Driver, Executors, Listener
from mcpops.engine.gates import SETTINGS, GateInputs, gate_executors
from mcpops.engine.plays import play_executor, probe_executor
from mcpops.journal.absorb import absorb
from mcpops.journal.queries import Journal
from mcpops.journal.store import Store
from mcpops.journal.writes import RunWriter
from mcpops.model.target import Target
from mcpops.remote.targets import save_targets
from mcpops.runbook.derive import probe_play, undo_play
from mcpops.runbook.search import SearchPath

FRONTS = "fronts"  # the inventory group of the hosts that a deploy acts on


@dataclass(frozen=True)
class Record:
    """The journal of a project, opened."""

    store: Store
    journal: Journal
    clock: Clock


def open_record(session: Session) -> Record:
    """Open the journal of the session's project, and take in the rollbacks that were done without it."""
    project = find_project(session)
    store, clock = Store(journal_path(project)), SystemClock()
    absorb(store, clock, (project / STATE).glob("*/rollbacks/*.json"))
    return Record(store, Journal(store), clock)


@dataclass(frozen=True)
class Workplace:
    """What a run of an environment needs: where things are, and what the inventory says."""

    environment: Environment
    record: Record
    search: SearchPath
    inventory: Inventory

    def planned(self, snapshot: Path) -> Inventory:
        """Return the inventory as it was when a run was planned."""
        return load_inventory(snapshot / "inventory", self.environment.project, SETTINGS)

    def targets(self) -> list[Target]:
        """Return how to reach the fronts. Raises UsageError."""
        return targets(self.inventory, FRONTS)

    def driver(
        self, writer: RunWriter, listener: Listener, planned: Inventory, *, timeout_s: float | None = None
    ) -> Driver:
        """Return the driver of a run, with the tables of how its steps are done.

        `planned` is the inventory of the run's snapshot: where the run acts, and with today's what its gates ask.
        """
        record = self.record
        inputs = [GateInputs(_settings(known), record.journal, record.clock) for known in (planned, self.inventory)]
        executors = Executors(
            play=play_executor(lambda step: step.body),
            probe=probe_executor(probe_play),
            direct=direct_executors(lambda: targets(planned, FRONTS)),
            gates=gate_executors(inputs),
            undo_play=undo_play,
        )
        return Driver(record.journal, writer, executors, listener, timeout_s=timeout_s)


def _settings(inventory: Inventory) -> dict[str, Any]:
    """Return the variables of the first front: what the environment asks of every deploy."""
    hosts = inventory.groups.get(FRONTS, ())
    return dict(inventory.variables[hosts[0]]) if hosts else {}


def open_workplace(session: Session) -> Workplace:
    """Find project and environment, read the inventory, and keep the targets for a rollback without Ansible."""
    environment = find_environment(session)
    record = open_record(session)
    inventory = load_inventory(environment.inventory, environment.project, SETTINGS)
    if inventory.groups.get(FRONTS):
        digest = tree_digest(environment.inventory)
        save_targets(environment.state / "targets.json", targets(inventory, FRONTS), digest)
    return Workplace(environment, record, SearchPath.of(environment.project), inventory)
