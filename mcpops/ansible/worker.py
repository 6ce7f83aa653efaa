"""The process that runs one play: `python -m mcpops.ansible.worker`, started by `play.run_play`.

Standard input: the spec, one JSON object. Standard output: JSON lines (see `events.Reducer`), and at last
`{"is": "end", "exit_code", "status", "said"}`. It dies with its parent, and everything below it dies with it:

- PR_SET_PDEATHSIG sends it SIGTERM when the thread that started it ends;
- PR_SET_CHILD_SUBREAPER keeps processes that leave their session (Ansible's forks do) below it;
- SIGTERM goes to Ansible's main process first: that hangs up the terminals of remote commands. Then SIGKILL
  for whatever is left, then the private directory goes.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from mcpops.ansible import fence, private
from mcpops.ansible.events import Reducer
from mcpops.core.proc import DAEMON, alive, descendants, kill_until_gone, with_environment
from mcpops.core.redaction import Redactor

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_PLUGINS = {
    "ANSIBLE_LIBRARY": "modules",
    "ANSIBLE_MODULE_UTILS": "module_utils",
    "ANSIBLE_ACTION_PLUGINS": "action",
    "ANSIBLE_FILTER_PLUGINS": "filter",
    "ANSIBLE_LOOKUP_PLUGINS": "lookup",
}
_WAYS = "ways"  # the file in an attempt's directory where the connection says which way each command took
_TERM_GRACE_S = 1.0  # Ansible's main process ends within 0.4 s of SIGTERM (measured); then SIGKILL


def _bind_to_parent(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _end_tree() -> None:
    """End all processes below this one: SIGTERM to the nearest, SIGKILL for the rest.

    A daemon that a local play started on purpose says so by DAEMON in an environment of its own; it stays.
    """
    me = os.getpid()
    below = _own_tree(me)
    direct = below[:1]
    for pid in direct:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _TERM_GRACE_S
    while any(alive(pid) for pid in direct) and time.monotonic() < deadline:
        time.sleep(0.02)
    with suppress(TimeoutError):
        kill_until_gone(lambda: _own_tree(me))


def _own_tree(me: int) -> list[int]:
    daemons = set(with_environment(DAEMON, lambda _: True))
    return [pid for pid in descendants(me) if pid not in daemons]


class Worker:
    """One play, from the spec to the last message."""

    def __init__(self, spec: dict[str, Any], out: TextIO) -> None:
        self._spec = spec
        self._out = out
        self._root = Path(spec["root"])
        self._on_host = Path(spec["on_host"])
        self._reducer = Reducer(Redactor(spec["secrets"]))

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGTERM: leave nothing behind."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._clean_up()
        os._exit(128 + signal.SIGTERM)

    def run(self) -> None:
        """Run the play and tell the end; everything below is gone when this returns."""
        try:
            private.fill(self._root, self._spec)
            end = self._run_ansible(self._root)
        finally:
            self._clean_up()
        self._send(end)

    def _run_ansible(self, root: Path) -> dict[str, Any]:
        os.environ.update(_ansible_environment(root, self._on_host if self._spec["local"] else None))
        os.environ.update({**self._spec["fence"], fence.ROOT: str(root), "ANSIBLE_WARM_LOG": str(root / _WAYS)})
        from ansible_runner import interface  # noqa: PLC0415 - heavy, and only needed once the spec is good

        runner = interface.run(
            private_data_dir=str(root),
            playbook=str(private.step_path(root, self._spec["runbook"])),
            inventory=self._spec["inventory"],
            limit=self._spec["limit"],
            forks=self._spec["forks"],
            cmdline=shlex.join(_arguments(self._spec, root)),
            quiet=True,
            event_handler=self._on_event,
            # Any callback keeps ansible-runner from putting its own handlers in place of ours.
            cancel_callback=lambda: False,
        )
        refusal = fence.told(root)
        if refusal:
            self._send({"is": "fenced", "why": refusal})
        self._send({"is": "ways", **ways(root / _WAYS)})
        said = self._reducer.said.replace(f"{root}/project/", "")
        return {"is": "end", "exit_code": runner.rc, "status": runner.status, "said": said}

    def _on_event(self, event: dict[str, Any]) -> bool:
        """Send what we keep; False: no event file. Never raises: an exception would tear the play down half-way."""
        try:
            refusal = fence.told(self._root)
            message = {"is": "fenced", "why": refusal} if refusal else self._reducer.reduce(event)
            if message is not None:
                self._send(message)
        except Exception as error:  # noqa: BLE001 - told to the parent, which makes the verdict unknown
            self._send({"is": "lost", "why": type(error).__name__})
        return False

    def _send(self, message: dict[str, Any]) -> None:
        # A parent that is gone is no reason to stop half-way through this function: PDEATHSIG ends us.
        with suppress(OSError):
            self._out.write(json.dumps(message) + "\n")
            self._out.flush()

    def _clean_up(self) -> None:
        _end_tree()
        private.remove(self._root)
        private.remove(self._on_host)


def ways(log: Path) -> dict[str, Any]:
    """Count the commands that a warm server ran, and the others by why: `{"warm": 40, "ssh": {"switched off": 2}}`."""
    warm, ssh = 0, Counter[str]()
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}  # nothing went over ssh
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:  # cut off: the disk was full
            line = {"way": "", "why": "not told"}
        if line["way"] == "warm":
            warm += 1
        else:
            ssh[line["why"]] += 1
    return {"warm": warm, "ssh": dict(ssh)}


def _arguments(spec: dict[str, Any], root: Path) -> list[str]:
    arguments = ["-e", f"@{root / 'variables.yml'}"]
    if spec["check"]:
        arguments.append("--check")
    if spec["diff"]:
        arguments.append("--diff")
    return arguments


def _ansible_environment(root: Path, on_host: Path | None) -> dict[str, str]:
    """Return what must hold for every attempt, whatever the project's ansible.cfg says.

    `on_host` is where Ansible may put what it copies to hosts, if that is for us to say: a project that names a place
    of its own has a reason.
    """
    project = root / "project"
    plugins = project / "plugins"
    config = project / "ansible.cfg"
    ours = on_host is not None and not (config.is_file() and "remote_tmp" in config.read_text(encoding="utf-8"))
    return {
        **({"ANSIBLE_REMOTE_TMP": str(on_host)} if ours else {}),
        "ANSIBLE_CONFIG": str(config if config.is_file() else root / "empty.cfg"),
        "ANSIBLE_ROLES_PATH": str(project / "roles"),
        **{name: str(plugins / directory) for name, directory in _PLUGINS.items()},
        # Before Ansible's own and the project's: see fence.py.
        "ANSIBLE_CONNECTION_PLUGINS": f"{Path(__file__).parent / 'connection'}{os.pathsep}{plugins / 'connection'}",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(root / "cp"),
        "ANSIBLE_LOCAL_TEMP": str(root / "tmp"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",  # ansible-runner turns it off when nobody says anything
        "ANSIBLE_ASK_VAULT_PASS": "False",  # there is nobody to type it
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_NOCOWS": "True",
        # Before ansible-runner's own: see callback/awx_display.py.
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback"),
    }


def main() -> int:
    """Run the play that standard input describes; exit 0 when its end was told."""
    parent = int(sys.argv[1])
    _bind_to_parent(parent)
    # Only our messages may go to the pipe: whatever else prints goes to standard error.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(json.load(sys.stdin), out)
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
