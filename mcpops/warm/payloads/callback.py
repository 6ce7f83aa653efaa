"""What Ansible's main process tells the payload cache: a callback plugin's class and its options."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.plugins.callback import CallbackBase

from mcpops.warm.payloads.cache import PayloadCache, default_directory
from mcpops.warm.payloads.store import Store

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

DOCUMENTATION = r"""
name: payload_cache
type: aggregate
short_description: Keeps the payloads of modules between runs
description:
  - Ansible packs each module with what it imports, anew in each run. This keeps the packages of earlier runs, each with
    the digests of all files that went in, and gives one to a run only if all of them are certainly still the same.
  - Nothing that it meets makes a run fail. It warns once and stands aside.
options:
  directory:
    description:
      - Where payloads are kept. It is made with mode 0700, and not used if anybody else can write there.
      - If not set, C(mcpops/payloads) in E(XDG_CACHE_HOME) or in C(~/.cache).
    type: path
    env: [{name: ANSIBLE_PAYLOAD_CACHE}]
    ini: [{section: payload_cache, key: dir}]
author: mcpops
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Give and keep payloads. Its methods are called in the main process, while no worker builds any."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "payload_cache"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._cache: PayloadCache | None = None
        self._store: Store | None = None
        self._aside = False
        self._warned = False

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Keep what the play before this one built, and see what earlier runs built."""
        self._certainly(lambda: self._open().begin_play(str(play.strategy)))

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        """Give what the task needs, and take back what one before, or a role that was included, made wrong."""
        if self._cache is not None:
            cache = self._cache
            self._certainly(lambda: cache.begin_task(str(task.action), task.collections or ()))

    def v2_playbook_on_handler_task_start(self, task: Task) -> None:
        """Do the same for a handler."""
        self.v2_playbook_on_task_start(task, False)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Keep what the last play built, and throw away what is old."""
        self._certainly(self._end)

    def _open(self) -> PayloadCache:
        if self._cache is None:
            from ansible import constants  # noqa: PLC0415 - its attributes exist only while Ansible runs

            # Ansible takes an empty variable for the current directory.
            chosen = self.get_option("directory") if os.environ.get("ANSIBLE_PAYLOAD_CACHE") != "" else None
            directory = Path(chosen) if chosen else default_directory(dict(os.environ))
            self._store = Store.open(directory, os.geteuid())
            of_run = Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache"
            self._cache = PayloadCache(self._store, of_run, time.time)
        return self._cache

    def _end(self) -> None:
        if self._cache is None or self._store is None:  # no play had a host
            return
        counts = self._cache.counts
        self._cache.keep()
        self._store.prune(time.time())
        for line in counts.passed_over:
            self._display.vvv(f"payload cache: not kept: {line}")
        told = f"{counts.given} given, {counts.taken_back} taken back, {counts.kept} kept"
        self._display.vv(f"payload cache: {told}")

    def _certainly(self, act: Callable[[], None]) -> None:
        """Do it, or stand aside for the rest of the run."""
        if self._aside:
            return
        try:
            act()
            refused = self._cache.counts.refused if self._cache else []
            if refused:
                self._warn(f"{len(refused)} payloads are not used: {refused[0]}")
        except Exception as error:  # noqa: BLE001 - a cache is never a reason for a run to fail
            self._aside = True
            self._warn(f"not used in this run: {error}")
            self._withdraw()

    def _withdraw(self) -> None:
        try:
            if self._cache is not None:
                self._cache.withdraw()
        except OSError as error:
            self._display.vvv(f"payload cache: {error}")

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            self._display.warning(f"payload cache: {text}")
