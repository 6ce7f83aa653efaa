"""Waking workers on PostgreSQL, by procrastinate: its jobs carry the id of a run, and nothing else.

The journal alone says what may run. So a job that is lost, comes twice or comes late changes nothing: workers also look
by themselves every few seconds.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Status

from mcpops.cli.common import tell

TASK = "mcpops.run"
QUEUE = "mcpops"
SWEEP_S = 5.0  # how long a run may go unseen when its job was lost
STALLED_S = 30.0  # a job whose worker gave no sign of life for so long is cleared away


def wake(conninfo: str, run_id: str) -> None:
    """Put a job for a run into the queue; where there is no queue yet, no worker ever asked, and none waits."""
    app = App(connector=SyncPsycopgConnector(conninfo=conninfo))
    try:
        with app.open():
            _defer(app, run_id)
    except ConnectorException as error:
        tell(f"mcpops: warning: no worker was woken ({error.__cause__ or error}); one finds the run by itself")


def _defer(app: App, run_id: str) -> None:
    with suppress(AlreadyEnqueued):
        # The lock keeps one waiting job a run; it is no right to act, which is the lease's business.
        app.configure_task(TASK, queue=QUEUE, queueing_lock=run_id, allow_unknown=True).defer(run_id=run_id)


def serve(conninfo: str, work: Callable[[str], None], sweep: Callable[[], list[str]], stop: threading.Event) -> None:
    """Work on jobs, one at a time, until told to stop. `sweep` says every few seconds what may run now."""
    asyncio.run(_serve(conninfo, work, sweep, stop))


async def _serve(
    conninfo: str, work: Callable[[str], None], sweep: Callable[[], list[str]], stop: threading.Event
) -> None:
    app = App(connector=PsycopgConnector(conninfo=conninfo))

    @app.task(name=TASK, queue=QUEUE)
    def drive(run_id: str) -> None:
        work(run_id)

    async with app.open_async():
        if not await app.check_connection_async():
            with suppress(ConnectorException):  # two workers may begin at once
                await app.schema_manager.apply_schema_async()
        worker = asyncio.create_task(
            app.run_worker_async(queues=[QUEUE], concurrency=1, install_signal_handlers=False, delete_jobs="always")
        )
        try:
            while not stop.is_set() and not worker.done():
                await _sweep(app, sweep)
                await asyncio.to_thread(stop.wait, SWEEP_S)
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker


async def _sweep(app: App, sweep: Callable[[], list[str]]) -> None:
    """Put what may run now into the queue, and clear away jobs whose worker is gone."""
    for run_id in await asyncio.to_thread(sweep):
        with suppress(AlreadyEnqueued):
            await app.configure_task(TASK, queue=QUEUE, queueing_lock=run_id).defer_async(run_id=run_id)
    for job in await app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=STALLED_S):
        await app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
