"""Points at which crash tests end this process. Nothing but a test sets MCPOPS_FAILPOINT.

The engine has, for each step: `after-intent:STEP` (the intent is written, nothing is done), `before-outcome:STEP` (it
is done, nothing of it is written), and `before-end` (all is done but the end of the run). The program on hosts has
its own (`mcpops.hostside.state.failpoint`).
"""

from __future__ import annotations

import os
import signal

VARIABLE = "MCPOPS_FAILPOINT"


def failpoint(name: str) -> None:
    """End this process with SIGKILL when the variable names this point."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
