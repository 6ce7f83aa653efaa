"""Run one play in a process of its own, to be killed: `python play_parent.py TREE INVENTORY PLAY RUN_ID`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from mcpops.ansible.play import PlayCall, run_play

tree, inventory, play, run_id = sys.argv[1:]
run_play(
    PlayCall(
        name="victim",
        play=Path(play).read_text(encoding="utf-8"),
        tree=Path(tree),
        inventory=Path(inventory),
        run_id=run_id,
        attempt=1,
        fence=1,
    ),
    lambda result: print(result.task, flush=True),
    threading.Event(),
)
