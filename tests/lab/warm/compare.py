"""Compare two runs of one playbook, field by field: `python -m tests.lab.warm.compare ONE OTHER`.

Both are files of the callback plugin `whole`. Exit status: 0 equal, 1 different, 2 a file is not a whole run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tests.lab.warm.rules import Rules

_SHOWN = 300
MISSING = "(missing)"


@dataclass(frozen=True)
class Record:
    """One line of a run: what a task, or an item of its loop, came to on a host."""

    event: str
    play: str
    task: str
    action: str
    host: str
    item: Any
    result: dict[str, Any]

    @property
    def title(self) -> str:
        """Its place in words."""
        item = "" if self.item is None else f" [{json.dumps(self.item, ensure_ascii=False)}]"
        return f"{self.play} / {self.task}{item} on {self.host}" if self.task else f"{self.event} of {self.host}"


@dataclass(frozen=True)
class Difference:
    """One field that differs; `one` and `other` are what stood there, or MISSING."""

    title: str
    field: str
    one: str
    other: str

    def __str__(self) -> str:
        return f"{self.title}: {self.field}\n    one:   {self.one}\n    other: {self.other}"


def load(path: Path) -> list[Record]:
    """Return the records of a run; raises ValueError when it broke off or the file is none."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.append(Record(**{name: row[name] for name in Record.__dataclass_fields__}))
    if not found or found[-1].event != "stats":
        raise ValueError(f"{path}: the run broke off, its last line is no number of the end")
    return found


def compare(one: Sequence[Record], other: Sequence[Record], rules: tuple[Rules, Rules]) -> list[Difference]:
    """Return all differences, in the order of the tasks; `rules` are those of each run.

    Hosts answer in any order, so each host's records are compared for themselves, in their order. Where the tasks
    themselves differ, the first such place of a host is the last that is looked at: all behind it is shifted.
    """
    found: list[Difference] = []
    for host in sorted({record.host for record in (*one, *other)}):
        of_host = [[record for record in records if record.host == host] for records in (one, other)]
        found += _compare_host(host, *of_host, rules)
    return found


def _compare_host(
    host: str, one: Sequence[Record], other: Sequence[Record], rules: tuple[Rules, Rules]
) -> Iterator[Difference]:
    for pair in zip_longest(one, other):
        left, right = pair
        if left is None or right is None:
            there = left or right
            texts = [record.title if record else MISSING for record in (left, right)]
            yield Difference(f"host {host}", f"a record ({there.event})", *texts)
            return
        places = [(record.play, record.task, record.action, record.item) for record in (left, right)]
        if places[0] != places[1]:
            yield Difference(f"host {host}", "order of tasks", left.title, right.title)
            return
        if left.event != right.event:
            yield Difference(left.title, "event", left.event, right.event)
        yield from _fields(left.title, "", *(rules[at].normal(pair[at].result, left.action) for at in (0, 1)))


def _fields(title: str, at: str, one: Any, other: Any) -> Iterator[Difference]:
    """Return what differs in two values; `at` is the path to them."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            yield from _fields(title, f"{at}.{key}".lstrip("."), one.get(key, MISSING), other.get(key, MISSING))
    elif isinstance(one, list) and isinstance(other, list):
        for number, (left, right) in enumerate(zip_longest(one, other, fillvalue=MISSING)):
            yield from _fields(title, f"{at}[{number}]", left, right)
    elif type(one) is not type(other) or one != other:
        yield Difference(title, at, *_shown(one, other))


def _shown(one: Any, other: Any) -> tuple[str, str]:
    """Return both as texts of bounded length that begin shortly before they differ."""
    texts = [value if value is MISSING else json.dumps(value, ensure_ascii=False) for value in (one, other)]
    same = next((at for at, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), min(map(len, texts)))
    begin = max(0, same - 60)
    cut = [("..." if begin else "") + text[begin : begin + _SHOWN] for text in texts]
    sizes = [f" ({len(text)} characters)" if len(text) > _SHOWN else "" for text in texts]
    return f"{cut[0]}{sizes[0]}", f"{cut[1]}{sizes[1]}"


def report(differences: Sequence[Difference]) -> str:
    """Return all of them in words."""
    return "\n".join(map(str, differences))


def main(argv: Sequence[str]) -> int:
    """Compare two files and say what differs."""
    try:
        one, other = (load(Path(name)) for name in argv)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"compare: error: {error}\n")
        return 2
    found = compare(one, other, (Rules(), Rules()))
    sys.stdout.write(f"{report(found)}\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
