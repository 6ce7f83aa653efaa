"""The comparison itself: whatever is altered in a run is found, and what two runs cannot share is not."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from tests.lab.warm import compare
from tests.lab.warm.compare import Record
from tests.lab.warm.rules import SETS, TEXTS, VALUES, Rules

RESULT = {
    "changed": True,
    "stdout": "one\ntwo\n",
    "rc": 0,
    "list": ["a", "b", {"deep": 1}],
    "ansible_facts": {"name": "twin", "number": 7},
    "warnings": ["a warning"],
}


def _record(task: str = "Task", host: str = "one", event: str = "ok", **values: object) -> Record:
    result = {**copy.deepcopy(RESULT), **values}
    return Record(event, "Play", task, "ansible.builtin.command", host, None, result)


def _run() -> list[Record]:
    return [
        _record("First", "one"),
        _record("First", "two"),
        _record("Second", "one", event="failed, ignored", failed=True, msg="it failed"),
        _record("Second", "two"),
        Record("stats", "Play", "", "", "one", None, {"ok": 2, "failures": 1}),
        Record("stats", "Play", "", "", "two", None, {"ok": 2, "failures": 0}),
    ]


def _found(one: list[Record], other: list[Record]) -> list[str]:
    return [difference.field for difference in compare.compare(one, other, (Rules(), Rules()))]


def _altered(at: int, **values: object) -> list[Record]:
    run = _run()
    for key, value in values.items():
        target = run[at].result
        *path, last = key.split("__")
        for step in path:
            target = target[step]
        if value is KeyError:
            del target[last]
        else:
            target[last] = value
    return run


def _without(*numbers: int) -> list[Record]:
    return [record for number, record in enumerate(_run()) if number not in numbers]


def _event(at: int, event: str) -> list[Record]:
    run = _run()
    run[at] = Record(event, *[getattr(run[at], name) for name in ("play", "task", "action", "host", "item", "result")])
    return run


ALTERATIONS = {
    "a value": (_altered(0, stdout="one\ntwo"), ["stdout"]),
    "a number of another type": (_altered(0, rc=False), ["rc"]),
    "a whole number that became a fraction": (_altered(0, rc=0.0), ["rc"]),
    "none in the place of nothing": (_altered(0, stdout=None), ["stdout"]),
    "a missing key": (_altered(1, stdout=KeyError), ["stdout"]),
    "a key more": (_altered(1, more=None), ["more"]),
    "a deep value": (_altered(0, ansible_facts__number=8), ["ansible_facts.number"]),
    "the order of a list": (_altered(0, list=["b", "a", {"deep": 1}]), ["list[0]", "list[1]"]),
    "a shorter list": (_altered(0, list=["a", "b"]), ["list[2]"]),
    "a warning more": (_altered(2, warnings=["a warning", "another"]), ["warnings[1]"]),
    "an event": (_event(0, "unreachable"), ["event"]),
    "an error that counts": (_event(2, "failed"), ["event"]),
    "a number at the end": (_altered(5, failures=1), ["failures"]),
    "a missing task": (_without(2), ["order of tasks"]),
    "a missing last record": (_without(5), ["a record (stats)"]),
    "a missing host": (_without(1, 3, 5), ["a record (ok)"]),
    "another order of tasks": ([_run()[at] for at in (2, 1, 0, 3, 4, 5)], ["order of tasks"]),
    "a host more": ([*_run(), _record("First", "three")], ["a record (ok)"]),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_alteration_is_found(name):
    altered, fields = ALTERATIONS[name]
    assert _found(_run(), altered) == fields
    assert _found(altered, _run()) == fields


def test_equal_runs_are_equal_in_whatever_order_hosts_answer():
    assert _found(_run(), [_run()[at] for at in (1, 0, 3, 2, 5, 4)]) == []


def test_a_difference_names_task_and_host_and_shows_both_sides():
    (found,) = compare.compare(_run(), _altered(2, msg="x" * 1000), (Rules(), Rules()))
    assert str(found).startswith("Play / Second on one: msg\n")
    assert "it failed" in found.one
    assert found.other.endswith("(1002 characters)")


def test_what_only_one_run_has_is_equal_under_its_own_name():
    one, other = _altered(0, stdout="from 10.0.0.1"), _altered(0, stdout="from 10.0.0.2")
    assert _found(one, other) == ["stdout"]
    rules = tuple(Rules(names={address: "<address>"}) for address in ("10.0.0.1", "10.0.0.2"))
    assert compare.compare(one, other, rules) == []


def test_a_time_is_equal_to_a_time_and_to_nothing_else():
    one = _altered(0, delta="0:00:01.002003")
    assert _found(one, _altered(0, delta="0:00:00.999999")) == []
    for other in (None, "", "1", "soon"):
        assert _found(one, _altered(0, delta=other)) == ["delta"]
    assert _found(one, _run()) == ["delta"]


def test_a_set_is_equal_in_any_order_and_another_list_is_not():
    units = [
        [Record("ok", "Play", "Task", "service", "one", None, {"status": {"After": text}})] for text in ("a b", "b a")
    ]
    assert _found(*units) == []
    assert _found(_altered(0, stdout="a b"), _altered(0, stdout="b a")) == ["stdout"]
    more = Record("ok", "Play", "Task", "service", "one", None, {"status": {"After": "a b c"}})
    assert _found(units[0], [more]) == ["status.After"]


def test_a_rule_for_some_actions_leaves_the_others_alone():
    for action, fields in (("stat", []), ("find", []), ("fetch", ["inode"])):
        pair = [[Record("ok", "Play", "Task", action, "one", None, {"inode": number})] for number in (1, 2)]
        assert _found(*pair) == fields


def test_every_rule_has_a_reason_and_matches_neither_nothing_nor_everything():
    for rule in (*VALUES, *SETS, *TEXTS):
        assert len(rule.why) > 5, rule
    for value in VALUES:
        assert not re.fullmatch(value.shape, ""), value
        assert not re.fullmatch(value.shape, "none of that shape"), value
    for plain in ("", "a text", "/tmp/corpus-user/text", "12", "10:20", "a.b.c", "word_word", "/tmp/a", "j1.2"):
        assert Rules().text(plain) == plain


def _write(path: Path, records: list[Record]) -> Path:
    names = Record.__dataclass_fields__
    path.write_text("".join(json.dumps({name: getattr(row, name) for name in names}) + "\n" for row in records))
    return path


def test_the_command_ends_with_what_it_found(tmp_path, capsys):
    one, same = _write(tmp_path / "one", _run()), _write(tmp_path / "same", _run())
    other = _write(tmp_path / "other", _altered(0, rc=1))
    assert compare.main([str(one), str(same)]) == 0
    assert capsys.readouterr().out == ""
    assert compare.main([str(one), str(other)]) == 1
    assert "Play / First on one: rc" in capsys.readouterr().out


def test_a_run_that_broke_off_is_no_run(tmp_path, capsys):
    whole = _write(tmp_path / "whole", _run())
    for broken in (_write(tmp_path / "broken", _run()[:-2]), _write(tmp_path / "empty", []), tmp_path / "none"):
        assert compare.main([str(whole), str(broken)]) == 2
        assert "compare: error" in capsys.readouterr().err
