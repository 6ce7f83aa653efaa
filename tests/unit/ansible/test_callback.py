from __future__ import annotations

from typing import Any

from mcpops.ansible.callback.awx_display import trim
from mcpops.ansible.events import CUT, SOURCE_CHARACTERS


def trimmed(**result: Any) -> dict[str, Any]:
    trim(result, lambda diff: f"diff of {diff}")
    return result


def test_only_the_allowed_names_stay() -> None:
    kept = {"msg": "m", "stderr": "e", "changed": True, "rc": 1, "censored": "c", "retries": 3, "attempts": 1}
    assert trimmed(**kept, ansible_facts={"x": 1}, invocation={}, results=[1], item="secret", password="p") == kept


def test_a_value_of_another_kind_is_no_text() -> None:
    assert trimmed(msg={"secret": "x"}, changed="yes", rc=[1]) == {}


def test_a_list_of_messages_becomes_one() -> None:
    assert trimmed(msg=["a", 1]) == {"msg": "a; 1"}


def test_a_long_text_keeps_head_and_tail() -> None:
    text = trimmed(stdout="h" * 10**6 + "t")["stdout"]
    assert len(text) == SOURCE_CHARACTERS + len(CUT)
    assert text.endswith("t")


def test_a_diff_is_rendered_only_when_there_is_one() -> None:
    assert trimmed(diff="d") == {"diff_text": "diff of d"}
    assert trimmed(diff=[]) == {}
