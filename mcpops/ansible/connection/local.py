"""Ansible's local connection, with the fence of the run in front of each command (see `mcpops.ansible.fence`)."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure

from mcpops.ansible.fence import Fence, Refused
from mcpops.warm.builtin import builtin

_BUILTIN = builtin("local")
DOCUMENTATION = _BUILTIN.DOCUMENTATION


class Connection(_BUILTIN.Connection):  # type: ignore[misc, name-defined]
    """The same connection; nothing is run once the right to act is gone."""

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, Any, Any]:
        """Run a command here, unless the right to act is gone."""
        fence = Fence.of_environment()
        try:
            if fence:
                fence.require_lease()
                fence.require_here()
        except Refused as error:
            raise AnsibleConnectionFailure(str(error)) from error
        result: tuple[int, Any, Any] = super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return result
