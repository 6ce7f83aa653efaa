"""What takes long and needs little, begun while a command imports the rest: 0.5 s of each that runs a runbook."""

from __future__ import annotations

from mcpops.ansible.ask import prepare
from mcpops.cli.common import Session
from mcpops.cli.project import find_environment


def begin(session: Session) -> None:
    """Have a process import Ansible, for `wire.open_workplace` to ask it about the inventory. Raises UsageError."""
    project = find_environment(session).project
    prepare("inventory_dump", project, project)
