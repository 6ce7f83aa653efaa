from __future__ import annotations

from typing import Any

import pytest

from mcpops.ansible.events import CUT, MESSAGE_BYTES, SOURCE_CHARACTERS, Reducer, shorten
from mcpops.core.redaction import Redactor


def event(kind: str, **data: Any) -> dict[str, Any]:
    base = {"host": "h1", "task": "Do", "task_action": "ansible.builtin.command", "task_uuid": "t1", "duration": 0.5}
    return {"event": kind, "event_data": base | data, "stdout": "not for the record", "uuid": "u", "counter": 1}


def reduce(*events: dict[str, Any], secrets: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    reducer = Reducer(Redactor(secrets))
    return [message for message in map(reducer.reduce, events) if message]


@pytest.mark.parametrize(
    ("kind", "res", "outcome"),
    [
        ("runner_on_ok", {"changed": False}, "ok"),
        ("runner_on_ok", {"changed": True}, "changed"),
        ("runner_on_failed", {"changed": True, "msg": "no"}, "failed"),
        ("runner_on_unreachable", {"msg": "no route"}, "unreachable"),
        ("runner_on_skipped", {}, "skipped"),
    ],
)
def test_each_ending_of_a_task_is_one_result(kind: str, res: dict[str, Any], outcome: str) -> None:
    (message,) = reduce(event(kind, res=res))
    assert message == {
        "is": "result",
        "host": "h1",
        "task": "Do",
        "outcome": outcome,
        "message": res.get("msg", ""),
        "duration_ms": 500,
        "ignored": False,
    }


@pytest.mark.parametrize(
    "kind", ["runner_on_start", "runner_item_on_ok", "runner_retry", "playbook_on_task_start", "verbose", "", "EOF"]
)
def test_other_events_say_nothing(kind: str) -> None:
    assert reduce(event(kind, res={"msg": "x"})) == []
    assert reduce({"event": kind}) == []


def test_nothing_but_the_allowed_fields_leaves() -> None:
    res = {"ansible_facts": {"a": "FORBIDDEN"}, "invocation": "FORBIDDEN", "stdout": "FORBIDDEN", "diff": "FORBIDDEN"}
    (message,) = reduce(event("runner_on_ok", res=res, task_args="FORBIDDEN", task_path="FORBIDDEN"))
    assert "FORBIDDEN" not in str(message)


@pytest.mark.parametrize("action", ["gather_facts", "ansible.builtin.setup", "ansible.builtin.validate_argument_spec"])
def test_preparations_count_as_nothing_when_good_and_are_seen_when_bad(action: str) -> None:
    assert reduce(event("runner_on_ok", task_action=action, res={})) == []
    assert len(reduce(event("runner_on_failed", task_action=action, res={}))) == 1
    assert len(reduce(event("runner_on_unreachable", task_action=action, res={}))) == 1


def test_an_ignored_failure_stays_a_failure() -> None:
    (message,) = reduce(event("runner_on_failed", res={"msg": "no"}, ignore_errors=True))
    assert (message["outcome"], message["ignored"]) == ("failed", True)


def test_a_failed_loop_says_what_its_first_failed_item_said() -> None:
    (message,) = reduce(
        event("runner_item_on_failed", res={"msg": "boom", "_ansible_item_label": "b"}),
        event("runner_item_on_failed", res={"msg": "bang", "_ansible_item_label": "c"}),
        event("runner_on_failed", res={"msg": "One or more items failed"}),
    )
    assert message["message"] == "item b: boom"


def test_a_failure_says_msg_and_both_outputs_once() -> None:
    res = {"msg": "non-zero", "stderr": "because", "stdout": "because", "module_stderr": ""}
    assert reduce(event("runner_on_failed", res=res))[0]["message"] == "non-zero\nbecause"
    assert reduce(event("runner_on_ok", res=res))[0]["message"] == "non-zero"


def test_no_log_says_so() -> None:
    assert reduce(event("runner_on_failed", res={"censored": "hidden", "msg": "x"}))[0]["message"] == "hidden"


def test_a_result_that_is_no_mapping_does_not_break() -> None:
    assert reduce(event("runner_on_failed", res=None))[0]["message"] == ""
    assert reduce(event("runner_on_failed", res="text"))[0]["message"] == ""


def test_a_long_message_is_bounded_and_shows_head_and_tail() -> None:
    text = reduce(event("runner_on_failed", res={"msg": "head" + "ä" * 100_000 + "tail"}))[0]["message"]
    assert len(text.encode()) <= MESSAGE_BYTES
    assert text.startswith("head")
    assert text.endswith("tail")
    assert shorten("short") == "short"


def test_a_secret_is_masked_before_the_cut() -> None:
    secret = "s" * 30
    filler = "x" * (MESSAGE_BYTES // 2 - 15)
    text = reduce(event("runner_on_failed", res={"msg": f"{filler}{secret}{'y' * 9000}"}), secrets=(secret,))[0]
    assert "sss" not in text["message"]


def test_half_a_secret_at_the_cut_of_the_callback_is_dropped() -> None:
    secret = "0123456789abcdef"
    head, tail = (secret + " ") * 2000 + secret[:10], secret[6:] + (" " + secret) * 2000
    text = head + CUT + tail
    assert len(text) > SOURCE_CHARACTERS
    message = reduce(event("runner_on_failed", res={"msg": text}), secrets=(secret,))[0]["message"]
    assert "012345" not in message
    assert "abcdef" not in message


def test_statistics_carry_the_outputs() -> None:
    stats = {
        "event": "playbook_on_stats",
        "event_data": {"artifact_data": {"a": 1}, "left": ["h2", "h1"], "waiting": [["h1", "restart"]]},
    }
    assert reduce(stats) == [{"is": "stats", "outputs": {"a": 1}, "left": ["h1", "h2"], "waiting": [["h1", "restart"]]}]
    assert reduce({"event": "playbook_on_stats"}) == [{"is": "stats", "outputs": {}, "left": [], "waiting": []}]


def test_errors_outside_of_tasks_are_kept_for_the_reason() -> None:
    reducer = Reducer(Redactor(["hunter22"]))
    reducer.reduce({"event": "error", "stdout": "[ERROR]: no such module, hunter22"})
    reducer.reduce({"event": "verbose", "stdout": ""})
    reducer.reduce({"event": "verbose", "stdout": "Origin: deploy.yml:3"})
    reducer.reduce(event("runner_on_start"))
    reducer.reduce({"event": "verbose", "stdout": "just talking"})
    assert reducer.said == "[ERROR]: no such module, ***\nOrigin: deploy.yml:3"
