"""From an event of ansible-runner to the few fields that mcpops keeps. Pure; runs in the worker.

An allow list: what is not named here never leaves the worker. `res` can hold anything, from facts to keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcpops.core.redaction import Redactor

# What a person reads of a result; the rest stays in the log of the host.
MESSAGE_BYTES = 4096
# What a step may hand to later ones: they become variables of every later play.
OUTPUTS_BYTES = 65536

# Tasks that Ansible puts in by itself or that only load others. They prove nothing: a play in which nothing but
# these ran has checked nothing, and must not pass.
_PREPARATION = frozenset(
    {"gather_facts", "setup", "validate_argument_spec", "include_tasks", "import_tasks", "include_role", "import_role"}
    | {"include_vars", "meta"}
)
_OUTCOMES = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}
# What the callback keeps of a result, by name, and of each text, and how it marks what it left out.
KEPT_TEXTS = frozenset(
    {"msg", "stderr", "module_stderr", "stdout", "module_stdout", "censored", "diff_text", "_ansible_item_label"}
)
KEPT_VALUES = frozenset({"changed", "failed", "unreachable", "skipped", "rc", "attempts", "retries", "_ansible_no_log"})
SOURCE_CHARACTERS = 65536
CUT = " … "

# Where modules say what went wrong, in the order of how much it tells.
_SAYINGS = ("msg", "stderr", "module_stderr", "stdout", "module_stdout")


def shorten(text: str, limit: int = MESSAGE_BYTES) -> str:
    """Return at most `limit` bytes of UTF-8, with a mark when something was cut: head and tail stay."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return text
    half = (limit - len(CUT.encode())) // 2
    return raw[:half].decode("utf-8", "ignore") + CUT + raw[-half:].decode("utf-8", "ignore")


class Reducer:
    """Turns the events of one play into the worker's messages, in order.

    Texts are redacted before they are shortened, so that no half of a secret survives the cut.
    Messages: `{"is": "result", "host", "task", "outcome", "message", "duration_ms", "ignored"}`,
    `{"is": "stats", "outputs", "left", "waiting"}` (hosts that left the play; pairs of a host and a handler that was
    notified and did not run), `{"is": "empty"}` when the play matched no host.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._items: dict[tuple[str, str], str] = {}
        self._said = ""
        self._in_error = False

    @property
    def said(self) -> str:
        """What Ansible printed as errors outside of any task: a play that cannot be parsed, for instance."""
        return shorten(self._clean(self._said))

    def _clean(self, text: str) -> str:
        """Redact; where the callback cut, also drop as much as half a secret on each side could be."""
        head, cut, tail = self._redactor(text).partition(CUT)
        if not cut or len(text) < SOURCE_CHARACTERS:
            return head + cut + tail
        longest = self._redactor.longest
        return head[: max(0, len(head) - longest)] + cut + tail[longest:]

    def reduce(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the message for an event, or None when it says nothing that we keep."""
        kind = str(event.get("event", ""))
        data = event.get("event_data") or {}  # the event `verbose` has no event_data at all
        if kind in _OUTCOMES:
            return self._result(_OUTCOMES[kind], data)
        if kind == "runner_item_on_failed":
            self._remember_item(data)
        elif kind == "playbook_on_stats":
            return self._stats(data)
        elif kind == "playbook_on_no_hosts_matched":
            return {"is": "empty"}
        else:
            self._listen(kind, str(event.get("stdout", "")))
        return None

    def _listen(self, kind: str, text: str) -> None:
        """Keep an error that Ansible prints before or after all tasks: line by line, the place behind the message."""
        self._in_error = kind in ("error", "verbose") and (self._in_error or "ERROR" in text)
        if self._in_error and text.strip():
            self._said = f"{self._said}\n{text}".strip()[: 4 * MESSAGE_BYTES]

    def _result(self, outcome: str, data: Mapping[str, Any]) -> dict[str, Any] | None:
        action = str(data.get("task_action", "")).rpartition(".")[2]
        res = data.get("res")
        res = res if isinstance(res, Mapping) else {}
        if outcome == "ok" and action in _PREPARATION:
            return None
        if outcome == "ok" and res.get("changed") is True:
            outcome = "changed"
        host = str(data.get("host", ""))
        item = self._items.pop((host, str(data.get("task_uuid", ""))), "")
        message = item if outcome == "failed" and item else _message(outcome, res)
        return {
            "is": "result",
            "host": host,
            "task": shorten(self._clean(str(data.get("task", ""))), 512),
            "outcome": outcome,
            "message": shorten(self._clean(message)),
            "duration_ms": round(float(data.get("duration") or 0) * 1000),
            "ignored": bool(data.get("ignore_errors")) and outcome == "failed",
        }

    def _remember_item(self, data: Mapping[str, Any]) -> None:
        """Keep what the first failed item of a loop said: the task itself says only that some item failed."""
        res = data.get("res")
        if isinstance(res, Mapping):
            key = (str(data.get("host", "")), str(data.get("task_uuid", "")))
            item = res.get("_ansible_item_label")
            said = _message("failed", res)
            self._items.setdefault(key, f"item {item}: {said}" if isinstance(item, str) else said)

    def _stats(self, data: Mapping[str, Any]) -> dict[str, Any]:
        outputs = data.get("artifact_data")
        left, waiting = data.get("left"), data.get("waiting")
        return {
            "is": "stats",
            "outputs": dict(outputs) if isinstance(outputs, Mapping) else {},
            "left": sorted(map(str, left)) if isinstance(left, (list, tuple)) else [],
            "waiting": [[str(host), self._clean(str(name))] for host, name in waiting or ()],
        }


def _message(outcome: str, res: Mapping[str, Any]) -> str:
    """Return what the module said. Of a success only `msg`: the output of a command is not for the record."""
    if res.get("censored"):
        return str(res["censored"])
    sayings = _SAYINGS if outcome in ("failed", "unreachable") else ("msg", "diff_text")
    texts = []
    for name in sayings:
        text = res.get(name)
        if isinstance(text, list):
            text = "; ".join(map(str, text))
        if isinstance(text, str) and text.strip() and text.strip() not in texts:
            texts.append(text.strip())
    return "\n".join(texts)
