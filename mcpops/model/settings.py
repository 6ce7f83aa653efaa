"""Settings: what `mcpops.yml` says of a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcpops.model.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Hearer:
    """A channel of notifications: which `events` it hears of, where (no `environments`: everywhere), and how."""

    name: str
    way: str  # webhook, email or command
    how: Mapping[str, Any]
    events: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()

    def wants(self, environment: str, event: str) -> bool:
        """Whether the channel hears of an event in an environment."""
        return event in self.events and (not self.environments or environment in self.environments)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a project says of itself. `journal` is a URL of PostgreSQL, or None for the file in `.mcpops/`.

    `journal_keys` are public keys of other control nodes that seal the same journal; `anchor` says where sealed heads
    go; `metrics_file` where the textfile collector of a node exporter looks.
    """

    name: str
    journal: str | None = None
    journal_keys: tuple[str, ...] = ()
    anchor: Mapping[str, Any] | None = None
    metrics_file: str | None = None
    notify: tuple[Hearer, ...] = ()
    schedules: tuple[Schedule, ...] = field(default=())
