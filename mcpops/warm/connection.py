"""Ansible's ssh connection, with modules run by a warm server on the host where that is certain to be the same.

The plugin's page is docs/explanation/warm.md. A connection that adds to it (mcpops's own `ssh`) overrides `ordinary`,
`begin`, `refused`, `broken` and `not_started`.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display

from mcpops.warm import command, wrapper
from mcpops.warm.builtin import builtin
from mcpops.warm.command import Interpreter
from mcpops.warm.errors import Absent, Broken, NotStarted, Refused, Unknown
from mcpops.warm.link import Answer, Link
from mcpops.warm.park import Label, Park, leave
from mcpops.warm.program import program
from mcpops.warm.start import Start, start

Result = tuple[int, bytes, bytes]

_SSH = builtin("ssh")
# Made when Ansible's main process loads its connection plugins, which is before it forks (playbook_executor.py).
_PARK = Park()
# ssh clients that this worker started: they outlive it, for the next one.
_SESSIONS: list[subprocess.Popen[bytes]] = []
_PUT_BYTES = 4 << 20  # larger files go by sftp: they would pass through this process's memory
_START_S = 20.0  # for a slow host to start a Python, beside the time that ssh has to connect
_SSH_FAILED = 255  # of ssh(1): an error of its own
_TRIES = 3  # to get a server that takes a request: one that waited may have left, the next find the host changed
_HOW = (
    "host", "port", "remote_user", "ssh_executable", "ssh_args", "ssh_common_args", "ssh_extra_args",
    "private_key_file", "control_path", "host_key_checking", "warm_idle",
)  # fmt: skip

DOCUMENTATION = (
    _SSH.DOCUMENTATION.replace("name: ssh", "name: warm", 1).replace(
        "      pipelining:\n", "      pipelining:\n          default: true\n", 1
    )
    + """
      warm:
        description: Whether modules are run by a server on the host. Off, this is Ansible's own ssh.
        type: bool
        default: true
        env: [{name: ANSIBLE_WARM}]
        ini: [{section: warm, key: enabled}]
        vars: [{name: ansible_warm}]
      warm_become_password:
        description: Also where sudo asks for a password. Its answer then counts until the end of the run.
        type: bool
        default: false
        env: [{name: ANSIBLE_WARM_BECOME_PASSWORD}]
        ini: [{section: warm, key: become_password}]
        vars: [{name: ansible_warm_become_password}]
      warm_idle:
        description: Seconds without a task after which a server leaves.
        type: int
        default: 60
        env: [{name: ANSIBLE_WARM_IDLE}]
        ini: [{section: warm, key: idle}]
        vars: [{name: ansible_warm_idle}]
      warm_log:
        description: File for one line of JSON a command, which says the way that it took.
        type: path
        env: [{name: ANSIBLE_WARM_LOG}]
        ini: [{section: warm, key: log}]
"""
)


class Connection(_SSH.Connection):  # type: ignore[misc, name-defined]
    """The same connection; a module of Ansible's that is known for certain is run by a server that is warm."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the builtin's own
        super().__init__(*args, **kwargs)
        self._digest = ""
        self._tty: bool | None = None

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Result:
        """Run a command on the host, by a server where that is certain to be the same."""
        what = "command"
        try:
            self._require_warm()
            if in_data:
                what = "module"
                module = wrapper.parse(in_data)
                what = module.fqn.rpartition(".")[2]
                answer = self._run_module(cmd, module)
            elif not sudoable and command.is_own(cmd):
                what = "shell"
                answer = self._ask(self._login(), {"op": "shell", "command": command.unwrap(cmd)})
            else:
                raise Unknown("not a Python module of Ansible's")
        except Unknown as error:
            self._tell("ssh", what, error)
            return self.ordinary(cmd, in_data, sudoable)
        self._tell("warm", what)
        if answer.code == _SSH_FAILED:
            self._fail(answer.error.decode(errors="replace"), bool(in_data))
        return answer.code, answer.out, answer.error

    def put_file(self, in_path: str, out_path: str) -> Any:  # noqa: ANN401 - the builtin's own
        """Copy a file to the host."""
        try:
            self._require_warm()
            mode, data = _small(Path(in_path))
            if not out_path.startswith("/"):
                raise Unknown("a path below a home directory")
            answer = self._ask(self._login(), {"op": "put", "path": out_path, "mode": mode}, data)
            if answer.code:
                raise Unknown("a file that could not be written")
        except Unknown as error:
            self._tell("ssh", "put", error)
            return super().put_file(in_path, out_path)
        self._tell("warm", "put")
        return answer.code, answer.out, answer.error

    def reset(self) -> None:
        """End the servers of this host, and the connection."""
        _PARK.drop(self._host())
        super().reset()

    def ordinary(self, cmd: str, in_data: bytes | None, sudoable: bool) -> Result:
        """Run a command as Ansible's own connection does."""
        result: Result = super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return result

    def begin(self, how: Interpreter) -> tuple[str, Mapping[str, Any] | None]:
        """Return the command that starts a server, and the fence that it asks before each task."""
        return how.start(), None

    def refused(self, error: Refused) -> None:
        """Take in that a server refused; whoever knows better what that means raises."""

    def broken(self) -> None:
        """Take in that a session broke under a task; whoever knows better what that means raises."""

    def not_started(self, error: NotStarted) -> None:
        """Take in that no server was started; whoever knows better what that means raises."""

    def _require_warm(self) -> None:
        """Raise Unknown where no server is wanted, or none can be kept."""
        self._host()
        if os.getpid() != _PARK.made_by != os.getppid():
            os._exit(1)  # the main process was killed: a loop must not go on without it
        if not self.get_option("warm"):
            raise Unknown("switched off")
        if os.getpid() == _PARK.made_by:
            raise Unknown("no process to keep a link between two tasks")
        if self.get_option("password") or self._play_context.password:
            raise Unknown("a password for ssh")

    def _run_module(self, cmd: str, module: wrapper.Module) -> Answer:
        how = command.interpreter(cmd, getattr(self.become, "success", "") if self.become else "")
        if how.prompt and not self.get_option("warm_become_password"):
            raise Unknown("sudo asks for a password")
        environment = json.dumps(dict(how.environment)).encode()
        request = {
            "op": "module",
            "digest": module.digest,
            "fqn": module.fqn,
            "profile": module.profile,
            "nofile": module.nofile,
            "environment": len(environment),
        }
        return self._ask(how, request, environment + module.parameters, module)

    def _login(self) -> Interpreter:
        """Return an interpreter for what is no module, as the login user: whichever served this host before."""
        path = _PARK.interpreter(self._host(), "login")
        if not path:
            raise Unknown("no server there yet")
        return Interpreter(path, {})

    def _ask(
        self, how: Interpreter, request: Mapping[str, Any], body: bytes = b"", module: wrapper.Module | None = None
    ) -> Answer:
        """Have a server do it; a second time only where a server said that it did not begin."""
        for _ in range(_TRIES):
            label = self._label(how)
            link = self._link(label, how, sent=module is not None)
            try:
                answer = link.ask(request, body)
                if answer == "wanted" and module:
                    link.ask(
                        {"op": "payload", "digest": module.digest, "sitecustomize": module.sitecustomize},
                        module.payload(),
                    )
                    answer = link.ask(request, body)
                if isinstance(answer, Answer):
                    return answer
                link.clean = False
                raise Broken("it said what it should not")
            except Absent as error:
                self._vvv(f"again: {error}")
            except Refused as error:
                link.clean = False
                self.refused(error)
                leave(link.end)
                self._vvv(str(error))
                _PARK.put(label, None)
                raise Unknown("a server would not take it") from error
            except Broken as error:
                self.broken()
                raise AnsibleConnectionFailure(
                    f"The session with {self.host} broke while a task ran there ({error}); what it did is not known."
                ) from error
            finally:
                if link.clean:
                    _PARK.put(label, link.end)
                else:
                    link.close()
        raise Unknown("servers leave as soon as they are there")

    def _link(self, label: Label, how: Interpreter, *, sent: bool) -> Link:
        """Return a link that waited, or a new one; `sent`: for something that is sent to the host, as a module is."""
        found = _PARK.take(label)
        if found.link:
            return Link(found.link, _PARK.made_by)
        if found.barred:
            raise Unknown("no server can be there")
        cmd, fence = self.begin(how)
        settings = {"idle_s": self.get_option("warm_idle"), "fence": fence}
        session = Start(
            argv=self._build_command(self.get_option("ssh_executable"), "ssh", "-T", self.host, cmd),
            program=program(settings),
            timeout_s=float(self.get_option("timeout") or 10) + _START_S,
            prompt=how.prompt,
            password=str(self.become.get_option("become_pass") or "") if how.prompt else "",
        )
        try:
            end, process = start(session)
        except (NotStarted, Unknown) as error:
            self._vvv(str(error))
            if isinstance(error, NotStarted):
                self.not_started(error)
                if (
                    error.code == _SSH_FAILED
                    and "timed out" in error.said
                    and not self.get_option("reconnection_retries")
                ):
                    self._fail(error.said, sent)  # to ask once more would only take as long again
            if not (isinstance(error, NotStarted) and error.code == _SSH_FAILED):  # ssh's own: the host may come back
                _PARK.put(label, None)
            raise Unknown("no server can be started") from error
        _SESSIONS.append(process)
        self._vvv(f"a server as {how.user} by {how.path}")
        return Link(end, _PARK.made_by)

    def _label(self, how: Interpreter) -> Label:
        """Return whose links may be used: with a password, those that were opened by the same one only."""
        user = how.user
        if how.prompt:
            user += f" {_PARK.digest(str(self.become.get_option('become_pass')))}"
        return Label(self._host(), user, how.path)

    def _fail(self, said: str, sent: bool) -> NoReturn:
        """Raise what Ansible's own connection makes of ssh's exit code, also where a module ended with it.

        It has other words where something was to be `sent`, as a module's code is.
        """
        said = "<error censored due to no log>" if self._play_context.no_log else said.rstrip()
        if sent:
            raise AnsibleConnectionFailure(
                f'Data could not be sent to remote host "{self.host}". '
                f"Make sure this host can be reached over ssh: {said}"
            )
        raise AnsibleConnectionFailure(f"Failed to connect to the host via ssh: {said}")

    def _host(self) -> str:
        """Return a digest of how the host is reached."""
        if not self._digest:
            self.host = self.get_option("host") or self._play_context.remote_addr
            how = [str(self.get_option(name)) for name in _HOW]
            self._digest = hashlib.sha256("\0".join(how).encode()).hexdigest()
        return self._digest

    def _is_tty_requested(self) -> bool:
        """Whether the options ask for a terminal; asked several times a task, it takes them apart each time."""
        if self._tty is None:
            self._tty = bool(super()._is_tty_requested())
        return self._tty

    def _tell(self, way: str, what: str, error: Exception | None = None) -> None:
        """Say which way a command took: to -vvv, and to the log where there is one."""
        why = f": {error}" if error else ""
        self._vvv(f"{what} by {way}{why}")
        if isinstance(error, Unknown) and error.once and _PARK.first():
            Display().display(f"warm: {error}; it takes the ordinary way from here on", stderr=True)
        log = self.get_option("warm_log")
        if log:
            line = json.dumps({"host": self.host, "way": way, "what": what, "why": str(error) if error else ""})
            with suppress(OSError):  # what was done was done, also where nobody can write that down
                handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    os.write(handle, line.encode() + b"\n")
                finally:
                    os.close(handle)

    def _vvv(self, text: str) -> None:
        Display().vvv(f"WARM: {text}", host=self.host)


def _small(path: Path) -> tuple[int, bytes]:
    """Return the mode and the content of a file that may pass through memory; raises Unknown for any other."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _PUT_BYTES:
            raise Unknown("a large file, or none")
        return stat.S_IMODE(status.st_mode) & 0o777, path.read_bytes()
    except OSError as error:
        raise Unknown("a large file, or none") from error
