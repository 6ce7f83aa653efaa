"""`mcpops worker`: takes runs from the queue."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import click

from mcpops.cli.common import Session, common_options, tell
from mcpops.core.errors import ExitCode, McpopsError

if TYPE_CHECKING:
    from mcpops.cli.record import Record
    from mcpops.engine.dispatch import Dispatcher

AGAIN_S = 5.0  # before the next try at a queue that is out of reach
LOOK_S = 1.0  # between two looks into a journal that nobody wakes us for


@click.command(
    epilog="Exit status: 0 it was told to stop (SIGTERM, Ctrl-C) or, with --once, nothing is left to do; 2 usage. How "
    "a run ended is in its record."
)
@click.option("--once", is_flag=True, help="Stop when nothing may run now.")
@common_options
@click.pass_obj
def worker(session: Session, once: bool) -> int:
    """Drive queued runs, and those whose worker is gone, one at a time, until told to stop."""
    from mcpops.cli.record import open_record  # noqa: PLC0415
    from mcpops.engine.dispatch import Dispatcher  # noqa: PLC0415

    record = open_record(session)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    dispatcher = Dispatcher(record.store, record.clock, lambda run_id: _drive(session, record, run_id), session.say)
    if once:
        while not stop.is_set() and dispatcher.step():
            pass
        return int(ExitCode.OK)
    session.say(f"worker: waiting for runs in {record.store.backend.name}")
    if record.settings.journal:
        _serve_queue(record, dispatcher, stop)
    else:
        dispatcher.serve(stop, LOOK_S, record.tell_outside)
    return int(ExitCode.OK)


def _serve_queue(record: Record, dispatcher: Dispatcher, stop: threading.Event) -> None:
    """Work on what procrastinate brings, as long as the journal too says that it may run."""
    from mcpops.cli.wake import serve  # noqa: PLC0415

    def work(run_id: str) -> None:
        if run_id in dispatcher.runnable():
            dispatcher.take(run_id)

    def sweep() -> list[str]:
        record.tell_outside()
        try:
            return dispatcher.runnable()
        except McpopsError:
            return []  # out of reach for a while; what it holds stays true

    while not stop.is_set():
        try:
            serve(str(record.settings.journal), work, sweep, stop)
        except Exception as error:  # noqa: BLE001 - the server went away; workers wait for it
            tell(f"mcpops: warning: the queue is out of reach: {error!r}")
            stop.wait(AGAIN_S)


def _drive(session: Session, record: Record, run_id: str) -> None:
    """Begin or resume a run, as `mcpops runs resume` does."""
    from dataclasses import replace  # noqa: PLC0415

    from mcpops.cli import launch, wire  # noqa: PLC0415

    run = record.journal.run(run_id)
    mine = replace(session, environment=run.environment, json=False, timeout_s=None, background=True)
    launch.resume(mine, wire.open_workplace(mine), run)
