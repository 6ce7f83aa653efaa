from __future__ import annotations

import pytest

from mcpops.ansible.vault_dump import _BREAK, _CIPHERTEXT, texts

KEY = "-----BEGIN X-----\nMIIEvQIBADANBg==\n-----END X-----\n"


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ("a: one\nb: {c: [two, 3000, true, null, ~]}\n", ["one", "two", "3000"]),
        ('{"a": "one", "b": ["two"]}', ["one", "two"]),
        ("- one\n- |\n  two\n  lines\n", ["one", "two\nlines\n"]),
        ("a: !unsafe '{{ x }}'\nb: 0123\n", ["{{ x }}", "0123"]),
        ("just-a-token\n", ["just-a-token\n"]),
        (KEY, [KEY, "="]),
        ("USER=ann\nPW = 'a b'\nh1 pass=\"c d\" port=22\n", [..., "ann", "a b", "c d", "22"]),
        ("a: one\n\tbroken: two\n", [..., "one", "two"]),
        ("", []),
        ("# a comment\n", ["# a comment\n"]),
    ],
)
def test_the_values_of_a_file_are_found_whatever_its_format(plain: str, expected: list[object]) -> None:
    assert list(texts(plain)) == [plain if value is ... else value for value in expected]


@pytest.mark.parametrize(
    "around",
    [
        "db: !vault |\n  {}\nbad: fade\n",
        "- !vault |\n    {}\n- bed\n",
        '{{"db": {{"__ansible_vault": "{}"}}, "a": 1}}',
        "db: !vault |-\n  {}",
    ],
)
def test_an_encrypted_value_is_found_whole_and_alone(around: str) -> None:
    header, digits = "$ANSIBLE_VAULT;1.2;AES256;dev", ("61" * 40, "62" * 3)
    between = "\\n" if "__ansible" in around else "\n    "
    text = around.format(between.join((header, *digits)) + ("\\n" if "__ansible" in around else ""))
    (found,) = _CIPHERTEXT.findall(text.encode())
    assert _BREAK.split(found) == [part.encode() for part in (header, *digits)]
