"""ansible-runner's callback with an allow list: what is not kept is dropped before it is written anywhere.

ansible-runner loads the callback named `awx_display`; this one stands before its own on the search path. Without
it a task that prints 100 MB sends all of it through a terminal, or (above MAX_EVENT_RES) loses even its message.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

from ansible.playbook.handler import Handler
from ansible_runner.display_callback.callback.awx_display import CallbackModule as RunnerCallback

from mcpops.ansible.events import CUT, KEPT_TEXTS, KEPT_VALUES, SOURCE_CHARACTERS

DOCUMENTATION = """
    callback: awx_display
    short_description: ansible-runner's event dispatcher, for results of bounded size
    version_added: "2.19"
    description:
        - Keeps of a result what mcpops records, and of each text its head and tail.
    type: stdout
    extends_documentation_fragment:
      - default_callback
    requirements:
      - Set as stdout in config
"""


def trim(result: MutableMapping[str, Any], diff_of: Callable[[Any], str]) -> None:
    """Reduce a result in place to the allowed names, and each text to SOURCE_CHARACTERS.

    `diff_of` renders Ansible's diff structure; a diff is there only when the run asked for it.
    """
    if result.get("diff"):
        result["diff_text"] = diff_of(result["diff"])
    for name in list(result):
        value = result[name]
        if name in KEPT_TEXTS and isinstance(value, (str, list)):
            result[name] = _middle_out("; ".join(map(str, value)) if isinstance(value, list) else value)
        elif not (name in KEPT_VALUES and isinstance(value, (bool, int, float, type(None)))):
            del result[name]


def _middle_out(text: str) -> str:
    half = SOURCE_CHARACTERS // 2
    return text if len(text) <= SOURCE_CHARACTERS else text[:half] + CUT + text[-half:]


class Waiting:
    """Which handlers wait on which hosts: notified by a change, or called at the flush, and not run.

    Ansible keeps that in its iterator, out of a callback's reach, and forgets it with the play.
    """

    def __init__(self) -> None:
        self._notified: set[tuple[str, str]] = set()
        self._called: set[tuple[str, str]] = set()

    def told(self, result: Any) -> None:  # noqa: ANN401 - Ansible's CallbackTaskResult
        """Take in the end of a task on a host; a handler among them has run, whatever came of it."""
        host, task = result.host.get_name(), result.task
        if isinstance(task, Handler):
            self._called.discard((host, task.get_name()))
        if task.notify and result.result.get("changed"):
            self._notified |= {(host, str(name)) for name in task.notify}

    def called(self, handler: Any, host: str) -> None:  # noqa: ANN401 - Ansible's Handler
        """Take in that a handler is to run on a host, by whatever name it was notified."""
        names = {handler.name, handler.get_name(), handler.get_name(include_role_fqcn=False), *(handler.listen or ())}
        self._notified -= {(host, name) for name in names}
        self._called.add((host, handler.get_name()))

    def left(self) -> list[list[str]]:
        """Return what still waits: pairs of host and handler."""
        return sorted(map(list, self._notified | self._called))


class CallbackModule(RunnerCallback):  # type: ignore[misc]
    """The same events, trimmed."""

    CALLBACK_NAME = "awx_display"
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"

    def __init__(self) -> None:
        super().__init__()
        self._plays: list[Any] = []
        self._waiting = Waiting()

    def v2_playbook_on_play_start(self, play: Any) -> None:  # noqa: ANN401
        """Keep the play: with `serial` there is one a batch."""
        self._plays.append(play)
        super().v2_playbook_on_play_start(play)

    def v2_playbook_on_notify(self, handler: Any, host: Any) -> None:  # noqa: ANN401
        """Keep a handler that was called for a host; Ansible does so at the flush, not when a task notifies."""
        self._waiting.called(handler, host.name)
        super().v2_playbook_on_notify(handler, host)

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ANN401
        """Tell what set_stats handed on, who left, and which handlers were notified and did not run.

        A host that `end_host` takes out has no result of its own, nor has a handler that a failure leaves waiting.
        """
        self.clear_play()
        left = sorted({host for play in self._plays for host in play._removed_hosts})
        data = {"artifact_data": stats.custom.get("_run", {}), "left": left, "waiting": self._waiting.left()}
        with self.capture_event_data("playbook_on_stats", **data):
            pass

    def _trimmed(self, result: Any) -> Any:  # noqa: ANN401 - Ansible's CallbackTaskResult, a copy for us alone
        trim(result.result, self._get_diff)
        return result

    def _ended(self, result: Any) -> Any:  # noqa: ANN401
        self._waiting.told(result)
        return self._trimmed(result)

    def v2_runner_on_ok(self, result: Any) -> None:  # noqa: ANN401, D102
        super().v2_runner_on_ok(self._ended(result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ANN401, D102
        super().v2_runner_on_failed(self._ended(result), ignore_errors)

    def v2_runner_on_skipped(self, result: Any) -> None:  # noqa: ANN401, D102
        super().v2_runner_on_skipped(self._ended(result))

    def v2_runner_on_unreachable(self, result: Any) -> None:  # noqa: ANN401, D102
        super().v2_runner_on_unreachable(self._ended(result))

    def v2_runner_item_on_ok(self, result: Any) -> None:  # noqa: ANN401, D102
        super().v2_runner_item_on_ok(self._trimmed(result))

    def v2_runner_item_on_failed(self, result: Any) -> None:  # noqa: ANN401, D102
        result.result["_ansible_item_label"] = str(self._get_item_label(result.result))
        super().v2_runner_item_on_failed(self._trimmed(result))

    def v2_runner_item_on_skipped(self, result: Any) -> None:  # noqa: ANN401, D102
        super().v2_runner_item_on_skipped(self._trimmed(result))

    def v2_runner_retry(self, result: Any) -> None:  # noqa: ANN401, D102
        super().v2_runner_retry(self._trimmed(result))

    def v2_on_file_diff(self, result: Any) -> None:  # noqa: ANN401
        """Send no event: the diff comes with the result, and may be large."""
