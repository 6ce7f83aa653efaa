from __future__ import annotations

import base64
import json
import pickle
import shlex
import traceback
from urllib.parse import quote, quote_plus

import pytest

from mcpops.core.redaction import MASK, Redactor
from mcpops.core.secret import Secret

VALUE = "S3cr/et+ \"päss's"


@pytest.mark.parametrize(
    "spelling",
    [
        VALUE,
        quote(VALUE),
        quote(VALUE, safe=""),
        quote_plus(VALUE),
        json.dumps(VALUE),
        json.dumps(VALUE, ensure_ascii=False),
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode(),
        repr(VALUE),
        shlex.quote(VALUE),
    ],
)
def test_every_spelling_is_masked(spelling: str) -> None:
    said = Redactor([VALUE])(f"before {spelling} after")
    assert MASK in said
    assert spelling.strip("'\"") not in said
    assert said.startswith("before ")
    assert said.endswith(" after")


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("after", ["", "z", "yz"])
def test_base64_of_a_text_around_the_value_does_not_tell_it(before: str, after: str) -> None:
    secret = "correct-horse-battery"
    encoded = base64.b64encode(f"{before}{secret}{after}".encode()).decode()
    said = Redactor([secret])(encoded)
    assert MASK in said
    left = said.replace(MASK, "")
    assert len(left) <= len(encoded) - len(secret)  # at most the edges are left


def test_a_key_file_is_masked_line_by_line() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nBAQEFAASCBKcwggSjAgEAAo\n-----END PRIVATE KEY-----\n"
    said = Redactor([key])("got MIIEvQIBADANBgkqhkiG9w0 in line 2")
    assert said == f"got {MASK} in line 2"


def test_lines_of_a_value_are_masked_unless_they_say_nothing() -> None:
    said = Redactor(["{\n  ann:$apr1$x\n}\n"])("{\n+  ann:$apr1$x\n}\n")
    assert said == f"{{\n+  {MASK}\n}}\n"


def test_the_longer_of_two_values_is_masked_whole() -> None:
    assert Redactor(["token", "token-extended"])("x token-extended y token") == f"x {MASK} y {MASK}"


@pytest.mark.parametrize("value", ["", " ", "a", "abc", "  ab "])
def test_values_that_occur_by_chance_are_left_alone(value: str) -> None:
    text = "abc a cab"
    assert Redactor([value])(text) == text


def test_without_values_nothing_changes() -> None:
    assert Redactor([])("text") == "text"
    assert Redactor([]).longest == 0


def test_values_in_structures_are_masked_keys_too() -> None:
    value = {"a": ["hunter22", 1, None, True], "hunter22": {"b": "x hunter22"}}
    assert Redactor(["hunter22"]).value(value) == {"a": [MASK, 1, None, True], MASK: {"b": f"x {MASK}"}}


def test_a_secret_does_not_print_itself() -> None:
    secret = Secret("hunter22")
    assert "hunter22" not in f"{secret} {secret!r} {[secret]} {secret:}"
    assert secret.reveal() == "hunter22"
    assert secret == Secret("hunter22")
    assert secret != Secret("other")
    assert secret != "hunter22"
    assert len({secret, Secret("hunter22")}) == 1
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_a_traceback_with_locals_does_not_show_a_secret() -> None:
    def break_with(secret: Secret) -> None:
        raise ValueError(secret)

    try:
        break_with(Secret("hunter" + "22"))  # the source line is shown as well
    except ValueError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert "hunter22" not in shown
        assert "***" in shown
