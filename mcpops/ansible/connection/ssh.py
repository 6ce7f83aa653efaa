"""Ansible's ssh connection, with the fence of the run in front of each command (see `mcpops.ansible.fence`)."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure

from mcpops.ansible.fence import EXIT_FENCED, EXIT_HELD, Fence, Held, Refused, builtin

_BUILTIN = builtin("ssh")
DOCUMENTATION = _BUILTIN.DOCUMENTATION


class Connection(_BUILTIN.Connection):  # type: ignore[misc, name-defined]
    """The same connection; a host that has seen a higher fence refuses."""

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, Any, Any]:
        """Run a command on the host, unless the right to act is gone."""
        fence = Fence.of_environment()
        if fence is None:
            result: tuple[int, Any, Any] = super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
            return result
        try:
            fence.require_lease()
            code, out, err = super().exec_command(fence.wrap(cmd), in_data=in_data, sudoable=sudoable)
            if code in (EXIT_FENCED, EXIT_HELD):
                fence.judge(str(self.host), code, (out + err).decode(errors="replace"))
        except (Refused, Held) as error:
            raise AnsibleConnectionFailure(str(error)) from error
        return code, out, err

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file to the host; what it is for is a command, which the host refuses itself."""
        fence = Fence.of_environment()
        try:
            if fence:
                fence.require_lease()
        except Refused as error:
            raise AnsibleConnectionFailure(str(error)) from error
        super().put_file(in_path, out_path)
