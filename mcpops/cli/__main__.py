"""`python -m mcpops.cli`: for timers, which name no program of a PATH that they do not have."""

from __future__ import annotations

import sys

from mcpops.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
