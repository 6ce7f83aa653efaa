"""Keeping the lease while a step runs; losing it cancels the step before the lease ends."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

from mcpops.ansible.fence import keep_deadline
from mcpops.core.errors import Fenced
from mcpops.journal.lease import LEASE_S
from mcpops.journal.writes import RunWriter

PERIOD_S = LEASE_S / 4
RETRY_S = 1.0  # after a renewal that failed; a renewal itself waits no longer than `store.HURRIED_MS`
ACT_S = LEASE_S * 0.9  # how long plays may act after a renewal began, by a clock that goes on in suspend
PATIENCE_S = LEASE_S * 0.6  # no renewal for so long: stop, while the lease still forbids others to start


class Heartbeat:
    """Renews the lease in a thread. `lost` is set, and says why, once the right to act is gone.

    `deadline` is the file in which plays see how long the lease counts; it goes with the heartbeat.
    """

    def __init__(self, writer: RunWriter, lost: threading.Event, deadline: Path) -> None:
        self._writer = writer
        self._lost = lost
        self._deadline = deadline
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.error: Fenced | None = None

    def __enter__(self) -> Heartbeat:
        keep_deadline(self._deadline, ACT_S)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=PERIOD_S)
        self._deadline.unlink(missing_ok=True)

    def _beat(self) -> None:
        clock = self._writer.clock
        renewed_s, wait_s = clock.monotonic_s(), PERIOD_S
        while not self._ended.wait(wait_s):
            began_s = clock.monotonic_s()
            try:
                self._writer.renew()
                renewed_s, wait_s = began_s, PERIOD_S
                keep_deadline(self._deadline, ACT_S - (clock.monotonic_s() - began_s))
            except Fenced as error:
                self.error = error
            except Exception as error:  # noqa: BLE001 - the journal may be out of reach for a while
                wait_s = RETRY_S
                if clock.monotonic_s() - renewed_s > PATIENCE_S:
                    self.error = _given_up(self._writer.run_id, error)
            if self.error:
                self._lost.set()
                return


def _given_up(run_id: str, error: Exception) -> Fenced:
    """Return why the run stops: it has not failed, but nobody may act on a lease that may have ended."""
    return Fenced(
        f"run {run_id} stopped: its lease could not be renewed in time",
        detail=str(error),
        hint=f"once the journal can be written again, `mcpops runs resume {run_id}` goes on",
    )
