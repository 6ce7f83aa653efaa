"""The fronts of an environment: from the saved targets when they still fit the inventory, else from Ansible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpops.cli.project import Environment

if TYPE_CHECKING:
    from mcpops.model.target import Target


def fronts_of(environment: Environment, *, required: bool = True) -> list[Target]:
    """Return how to reach the fronts; reads the inventory (0.3 s) only when it changed since.

    Where none are `required` an environment may have none; else that is a UsageError.
    """
    from mcpops.remote.targets import load_targets, save_targets  # noqa: PLC0415

    path, digest = environment.state / "targets.json", environment.inventory_digest()
    saved = load_targets(path, digest)
    if saved or (saved is not None and not required):
        return saved
    from mcpops.ansible.inventory import load_inventory, targets  # noqa: PLC0415

    inventory = load_inventory(environment.inventory, environment.project)
    if required or inventory.groups.get("fronts"):
        return targets(inventory)
    if environment.state.parent.is_dir():  # a project that never ran anything keeps nothing
        save_targets(path, [], digest)
    return []
