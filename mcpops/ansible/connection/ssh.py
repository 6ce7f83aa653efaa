"""The connection of our plays to other machines: warm, with the fence of the run in front of each command.

It takes the name `ssh`, so that it serves every host that Ansible would reach by ssh. See `mcpops.warm` and
`mcpops.ansible.fence`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from mcpops.ansible.fence import EXIT_FENCED, EXIT_HELD, Fence, Held, Refused
from mcpops.warm import connection as warm
from mcpops.warm.command import Interpreter
from mcpops.warm.errors import NotStarted
from mcpops.warm.errors import Refused as RefusedThere

DOCUMENTATION = warm.DOCUMENTATION


class Connection(warm.Connection):
    """The same connection; a host that has seen a higher fence refuses."""

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> warm.Result:
        """Run a command on the host, unless the right to act is gone."""
        with _fenced() as fence:
            if fence:
                fence.require_lease()
            return super().exec_command(cmd, in_data=in_data, sudoable=sudoable)

    def put_file(self, in_path: str, out_path: str) -> Any:  # noqa: ANN401 - the builtin's own
        """Copy a file to the host; what it is for is a command, which the host refuses itself."""
        with _fenced() as fence:
            if fence:
                fence.require_lease()
            return super().put_file(in_path, out_path)

    def ordinary(self, cmd: str, in_data: bytes | None, sudoable: bool) -> warm.Result:
        """Run a command by a session of its own, if the host has seen no higher fence."""
        fence = Fence.of_environment()
        code, out, err = super().ordinary(fence.wrap(cmd) if fence else cmd, in_data, sudoable)
        if fence and code in (EXIT_FENCED, EXIT_HELD):
            fence.judge(str(self.host), code, (out + err).decode(errors="replace"))
        return code, out, err

    def begin(self, how: Interpreter) -> tuple[str, Mapping[str, Any] | None]:
        """Start a server as a command under the fence: the watchdog beside it ends it when a higher number comes."""
        fence = Fence.of_environment()
        return (fence.wrap(how.start()), fence.for_server()) if fence else super().begin(how)

    def refused(self, error: RefusedThere) -> None:
        """Raise Refused when a server has seen a higher fence."""
        fence = Fence.of_environment()
        if fence and error.fence:
            fence.refuse(str(self.host), str(error).removeprefix("fenced: "))

    def broken(self) -> None:
        """Raise Refused if it was the watchdog that ended the server: another command hears of the higher fence."""
        if Fence.of_environment():
            self.ordinary("true", None, sudoable=False)

    def not_started(self, error: NotStarted) -> None:
        """Raise Refused, or Held, when it was the fence that kept a server from being started."""
        fence = Fence.of_environment()
        if fence:
            fence.judge(str(self.host), error.code, error.said)


@contextmanager
def _fenced() -> Iterator[Fence | None]:
    """Give the fence of the run, and make an error of Ansible's of what it says no to."""
    try:
        yield Fence.of_environment()
    except (Refused, Held) as error:
        raise AnsibleConnectionFailure(str(error)) from error
