"""The fronts of an environment: from the saved targets when they still fit the inventory, else from Ansible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpops.cli.project import Environment

if TYPE_CHECKING:
    from mcpops.model.target import Target


def fronts_of(environment: Environment) -> list[Target]:
    """Return how to reach the fronts; reads the inventory (0.3 s) only when it changed since."""
    from mcpops.remote.targets import load_targets  # noqa: PLC0415

    saved = load_targets(environment.state / "targets.json", environment.inventory_digest())
    if saved:
        return saved
    from mcpops.ansible.inventory import load_inventory, targets  # noqa: PLC0415

    return targets(load_inventory(environment.inventory, environment.project))
