"""Run one step as one ansible-runner process, and tell what came of it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from mcpops.ansible import fence, private
from mcpops.ansible.call import MARKER, PlayCall
from mcpops.ansible.environment import minimal_environment
from mcpops.ansible.events import OUTPUTS_BYTES, shorten
from mcpops.ansible.reap import reap_attempt
from mcpops.core.errors import Fenced
from mcpops.core.redaction import Redactor
from mcpops.core.secret import Secret
from mcpops.model.outcome import AttemptReport, Outcome, Result, judge

__all__ = ["PlayCall", "run_play"]

# A later run finds nothing changed and notifies nobody: what a handler was to do stays undone.
_NOT_RUN = "notified, and not run: do by hand what it does, or change again what notifies it"
_TICK_S = 0.1  # how long a cancel or a timeout may go unseen
_STOP_S = 5.0  # the worker's time to end its tree after SIGTERM; measured 0.3 to 1.3 s
_LINE_BYTES = 1 << 20  # no message of the worker is longer: 64 KiB of outputs, 4 KiB of text


class _Record:
    """What the worker told so far."""

    def __init__(self, redactor: Redactor, on_result: Callable[[Result], None]) -> None:
        self._redactor = redactor
        self._on_result = on_result
        self.results: list[Result] = []
        self.left: list[str] = []
        self.waiting: list[Result] = []
        self.outputs: dict[str, Any] = {}
        self.masked: list[str] = []
        self.ways: dict[str, Any] = {}
        self.ended = False
        self.empty = False
        self.lost = ""
        self.fenced = ""
        self.exit_code: int | None = None
        self.said = ""

    def take(self, message: Mapping[str, Any]) -> None:
        """Take in one message of `worker`; the module says which there are."""
        kind = message["is"]
        if kind == "result":
            result = Result(
                host=message["host"],
                task=self._redactor(message["task"]),
                outcome=Outcome(message["outcome"]),
                message=self._redactor(message["message"]),
                duration_ms=message["duration_ms"],
                ignored=message["ignored"],
            )
            self.results.append(result)
            self._on_result(result)
        elif kind == "stats":
            self.ended = True
            self.left = message["left"]
            self.waiting = [
                Result(host=host, task=f"handler {name}", outcome=Outcome.FAILED, message=_NOT_RUN)
                for host, name in message["waiting"]
            ]
            told: dict[str, Any] = message["outputs"]
            self.outputs = self._redactor.value(told)
            self.masked = [self._redactor(name) for name, value in told.items() if self._redactor.value(value) != value]
        elif kind == "empty":
            self.empty = True
        elif kind == "ways":
            self.ways = {name: message[name] for name in ("warm", "ssh") if name in message}
        elif kind == "fenced":
            self.fenced = message["why"]
        elif kind == "lost":
            self.lost = message["why"]
        elif kind == "end":
            self.exit_code = message["exit_code"]
            self.said = self._redactor(message["said"])


def run_play(call: PlayCall, on_result: Callable[[Result], None], cancel: threading.Event) -> AttemptReport:
    """Run the play and return the verdict; `on_result` gets each Result as it comes, in this thread.

    Raises Fenced when a host has seen a higher fence, or the lease ended: the play is over then. Nothing else that the
    play does raises: that is the verdict. What `on_result` raises comes out of here, after
    the play's processes are gone. `cancel` and the timeout end the play; the verdict is then unknown, because a
    module that was under way may or may not have done its work. Must be called in a thread that lives as long
    as the call (the worker dies with the thread that started it).
    """
    variables, revealed = _reveal(call.variables)
    secrets = [*(secret.reveal() for secret in call.secrets), *revealed]
    redactor = Redactor(secrets)
    record = _Record(redactor, on_result)
    began_s = time.monotonic()
    root = private.create(call.marker)
    with tempfile.TemporaryFile() as errors:
        process = _start(call, errors)
        stopped: str | None = None
        try:
            _hand_over(process, call, root, variables, secrets)
            stopped = _follow(process, record, cancel, call.timeout_s)
        finally:
            clean = _finish(process, call, by_itself=stopped == "")
            private.remove(root)
            private.remove(private.on_host(call.marker))
        trouble = _tail(errors, redactor)
    if record.fenced:
        raise Fenced(
            f"run {call.run_id} may not act any more",
            detail=record.fenced,
            hint="a rollback or a newer run took over; `mcpops status` says who acts, and what is in force",
        )
    if not clean:
        stopped = stopped or "processes of this attempt could not be ended"
    return _report(call, record, stopped, trouble, time.monotonic() - began_s)


def _start(call: PlayCall, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "mcpops.ansible.worker", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=minimal_environment({**call.environment, MARKER: call.marker}),
        cwd="/",
        start_new_session=True,
    )


def _hand_over(
    process: subprocess.Popen[bytes], call: PlayCall, root: Path, variables: Mapping[str, Any], secrets: list[str]
) -> None:
    spec = {
        "play": call.play,
        "runbook": call.runbook,
        "tree": str(call.tree.resolve()),
        "inventory": str(call.inventory.resolve()),
        "variables": variables,
        "secrets": secrets,
        "check": call.check,
        "diff": call.diff,
        "limit": call.limit,
        "forks": call.forks,
        "root": str(root),
        "on_host": str(private.on_host(call.marker)),
        "local": call.local,
        "fence": _fence(call),
    }
    if process.stdin is None:  # pragma: no cover - we asked for a pipe
        return
    try:
        process.stdin.write(json.dumps(spec).encode())
        process.stdin.close()
    except BrokenPipeError:
        pass  # it ended at once; the report says that nothing was told, and shows its last words


def _fence(call: PlayCall) -> dict[str, str]:
    """Return what the connection plugins need of the fence, as variables of the environment."""
    if call.scope is None:
        return {}
    said = {fence.SCOPE: call.scope, fence.HERE: call.here or call.scope, fence.NUMBER: str(call.fence)}
    said |= {fence.BESIDE: "\n".join(call.beside)} if call.beside else {}
    return said | ({fence.DEADLINE: str(call.deadline)} if call.deadline else {})


def _follow(process: subprocess.Popen[bytes], record: _Record, cancel: threading.Event, limit_s: float) -> str:
    """Take in messages until the worker closes its pipe; return why we stopped it, or nothing."""
    deadline_s = time.monotonic() + limit_s
    for line in _lines(process):
        if line is not None:
            record.take(json.loads(line))
        if record.fenced:
            return "fenced"
        if cancel.is_set():
            return "cancelled"
        if time.monotonic() > deadline_s:
            return f"the time limit of the step ({limit_s:g} s) passed"
    return ""


def _lines(process: subprocess.Popen[bytes]) -> Iterator[bytes | None]:
    """Yield the worker's lines, and None at every tick without one, until end of file."""
    pipe = process.stdout
    if pipe is None:  # pragma: no cover - we asked for a pipe
        return
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(_TICK_S):
                yield None
                continue
            chunk = os.read(pipe.fileno(), 65536)
            if not chunk or len(rest) > _LINE_BYTES:
                return
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole


def _finish(process: subprocess.Popen[bytes], call: PlayCall, *, by_itself: bool) -> bool:
    """End the worker and everything below it; return whether nothing is left."""
    if process.stdout is not None:
        process.stdout.close()
    try:
        if not by_itself:
            process.send_signal(signal.SIGTERM)
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.returncode == 0:
        return True
    try:
        reap_attempt(call.marker)
    except TimeoutError:
        return False
    return True


def _tail(errors: IO[bytes], redactor: Redactor) -> str:
    """Return the end of what the worker printed to standard error: a traceback, when it broke."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 65536))
    return shorten(redactor(errors.read().decode("utf-8", "replace")).strip())


def _reveal(variables: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the variables with their secrets opened, and the list of what was opened."""
    revealed: list[str] = []

    def opened(value: Any) -> Any:  # noqa: ANN401 - any JSON value
        if isinstance(value, Secret):
            revealed.append(value.reveal())
            return revealed[-1]
        if isinstance(value, Mapping):
            return {str(key): opened(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [opened(item) for item in value]
        return value

    return {name: opened(value) for name, value in variables.items()}, revealed


def _report(call: PlayCall, record: _Record, stopped: str, trouble: str, duration_s: float) -> AttemptReport:
    """Judge what was record. Nothing that stopped or shortened the record may end in a good verdict."""
    outcome, reason = judge(
        record.results,
        left=record.left,
        minimum_hosts=call.minimum_hosts,
        minimum_checks=call.minimum_checks,
        ended=record.ended,
        exit_good=record.exit_code == 0,
    )
    if stopped:
        outcome, reason = Outcome.UNKNOWN, stopped
    elif record.lost:
        outcome, reason = Outcome.UNKNOWN, f"an event could not be read ({record.lost})"
    elif outcome is Outcome.UNKNOWN:
        if record.empty:
            reason = "the play matched no host of the inventory"
        why = record.said or ("" if record.exit_code == 0 else trouble)
        reason = f"{reason}: {why}" if why else reason
    if record.waiting:
        names = ", ".join(f"{row.task} on {row.host}" for row in record.waiting)
        outcome = Outcome.UNKNOWN if outcome.good else outcome
        reason = "; ".join(filter(None, (reason, f"notified, and not run: {names}")))
    outputs = record.outputs
    if record.masked and outcome.good:  # a later step would take the mask for the value
        outcome = Outcome.UNKNOWN
        reason = f"the step hands on a secret by set_stats, which no record may hold: {', '.join(record.masked)}"
    if len(json.dumps(outputs).encode()) > OUTPUTS_BYTES:
        outcome, outputs = Outcome.UNKNOWN, {}
        reason = f"the step hands on more than {OUTPUTS_BYTES} bytes by set_stats"
    return AttemptReport(
        outcome=outcome,
        reason=shorten(reason),
        results=(*record.results, *record.waiting),
        outputs=outputs,
        duration_s=duration_s,
        ways=record.ways,
    )
