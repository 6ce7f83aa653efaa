"""Keeping the lease while a step runs; losing it cancels the step before the lease ends."""

from __future__ import annotations

import threading
from types import TracebackType

from mcpops.core.errors import Fenced
from mcpops.journal.lease import LEASE_S
from mcpops.journal.writes import RunWriter

PERIOD_S = LEASE_S / 4
PATIENCE_S = LEASE_S * 0.6  # no renewal for so long: stop, while the lease still forbids others to start


class Heartbeat:
    """Renews the lease in a thread. `lost` is set, and says why, once the right to act is gone."""

    def __init__(self, writer: RunWriter, lost: threading.Event) -> None:
        self._writer = writer
        self._lost = lost
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.error: Fenced | None = None

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=PERIOD_S)

    def _beat(self) -> None:
        clock = self._writer.clock
        renewed_s = clock.monotonic_s()
        while not self._ended.wait(PERIOD_S):
            try:
                self._writer.renew()
                renewed_s = clock.monotonic_s()
            except Fenced as error:
                self.error = error
            except Exception as error:  # noqa: BLE001 - the journal may be out of reach for a while
                if clock.monotonic_s() - renewed_s > PATIENCE_S:
                    self.error = Fenced("the lease could not be renewed in time", detail=repr(error))
            if self.error:
                self._lost.set()
                return
