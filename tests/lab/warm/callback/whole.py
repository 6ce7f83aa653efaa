"""Ansible callback plugin: write every result whole, one JSON line each, in the order in which they came."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: whole
type: aggregate
short_description: Write every result whole
description:
  - One JSON object a line, with C(event), C(at_s), C(play), C(task), C(action), C(host), C(item) and C(result).
  - The last line has the event C(stats); a file without it is of a run that broke off.
options:
  file:
    description: Where to write.
    type: path
    required: true
    env: [{name: ANSIBLE_WHOLE_FILE}]
author: mcpops
"""


def plain(value: object) -> object:
    """Return what JSON lacks in a form that keeps its type in sight."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    return {"type": type(value).__name__, "text": str(value)}


class CallbackModule(CallbackBase):
    """Writes results of tasks and of their items, and the numbers at the end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "whole"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._play, self._began_s = "", time.monotonic()
        self._handle: Any = None

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._handle = Path(self.get_option("file")).open("w", encoding="utf-8")  # noqa: SIM115 - open for the run

    def _write(self, event: str, **values: object) -> None:
        row = {"event": event, "at_s": round(time.monotonic() - self._began_s, 3), "play": self._play, **values}
        self._handle.write(json.dumps(row, default=plain) + "\n")
        self._handle.flush()

    def _result(self, event: str, result: Any) -> None:
        task, whole = result.task, result.result
        loop_variable = whole.get("ansible_loop_var")
        item = whole.get("_ansible_item_label", whole.get(loop_variable)) if loop_variable else None
        self._write(
            event,
            task=str(task.get_name()),
            action=str(task.action),
            host=result.host.get_name(),
            item=item,
            result=whole,
        )

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play = play.get_name()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._result("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._result("failed, ignored" if ignore_errors else "failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._result("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._result("unreachable", result)

    def v2_runner_on_async_ok(self, result: Any) -> None:
        self._result("async ok", result)

    def v2_runner_on_async_failed(self, result: Any) -> None:
        self._result("async failed", result)

    def v2_runner_retry(self, result: Any) -> None:
        self._result("retry", result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        self._result("item ok", result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        self._result("item failed", result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        self._result("item skipped", result)

    def v2_playbook_on_notify(self, handler: Any, host: Any) -> None:
        self._write("notify", task=handler.get_name(), action="", host=host.get_name(), item=None, result={})

    def v2_playbook_on_stats(self, stats: Any) -> None:
        for host in sorted(stats.processed):
            self._write("stats", task="", action="", host=host, item=None, result=stats.summarize(host))
        self._handle.close()
