"""ansible-runner's callback with an allow list: what is not kept is dropped before it is written anywhere.

ansible-runner loads the callback named `awx_display`; this one stands before its own on the search path. Without
it a task that prints 100 MB sends all of it through a terminal, or (above MAX_EVENT_RES) loses even its message.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

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


class CallbackModule(RunnerCallback):  # type: ignore[misc]
    """The same events, trimmed."""

    CALLBACK_NAME = "awx_display"
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"

    def __init__(self) -> None:
        super().__init__()
        self._plays: list[Any] = []

    def v2_playbook_on_play_start(self, play: Any) -> None:  # noqa: ANN401
        """Keep the play: with `serial` there is one a batch."""
        self._plays.append(play)
        super().v2_playbook_on_play_start(play)

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ANN401
        """Tell what set_stats handed on, and who left: a host that `end_host` takes out has no result of its own."""
        self.clear_play()
        left = sorted({host for play in self._plays for host in play._removed_hosts})
        with self.capture_event_data("playbook_on_stats", artifact_data=stats.custom.get("_run", {}), left=left):
            pass

    def _trimmed(self, result: Any) -> Any:  # noqa: ANN401 - Ansible's CallbackTaskResult, a copy for us alone
        trim(result.result, self._get_diff)
        return result

    def v2_runner_on_ok(self, result: Any) -> None:  # noqa: ANN401, D102
        super().v2_runner_on_ok(self._trimmed(result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ANN401, D102
        super().v2_runner_on_failed(self._trimmed(result), ignore_errors)

    def v2_runner_on_skipped(self, result: Any) -> None:  # noqa: ANN401, D102
        super().v2_runner_on_skipped(self._trimmed(result))

    def v2_runner_on_unreachable(self, result: Any) -> None:  # noqa: ANN401, D102
        super().v2_runner_on_unreachable(self._trimmed(result))

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
