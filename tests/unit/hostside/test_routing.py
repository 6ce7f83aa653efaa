"""The routing map and its history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcpops.hostside.routing import Routing, append_history, happened, parse_routing, read_history
from mcpops.hostside.state import Context, HostError


def line(before: int, after: int) -> dict[str, Any]:
    return {"from": {"generation": before}, "to": {"generation": after}, "generation": after}


def test_a_routing_and_its_map_are_the_same() -> None:
    routing = Routing("time", "green", 42, "bake")
    assert routing.as_map() == {"time": "green", "time.generation": "42", "time.phase": "bake"}
    assert parse_routing("time", routing.as_map()) == routing


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"time": "red", "time.generation": "1", "time.phase": "steady"},
        {"time": "blue", "time.generation": "one", "time.phase": "steady"},
        {"time": "blue", "time.generation": "1", "time.phase": "warm"},
        {"other": "blue", "other.generation": "1", "other.phase": "steady"},
    ],
)
def test_nonsense_is_unknown(content: dict[str, str]) -> None:
    with pytest.raises(HostError) as caught:
        parse_routing("time", content)
    assert (caught.value.name, caught.value.exit_code) == ("unreadable", 3)


@pytest.mark.parametrize(
    ("pairs", "generation", "expected"),
    [
        ([], 0, []),
        ([(0, 1), (1, 2)], 2, [2, 1]),
        # written, then killed before the rename; later another order became the same or another generation
        ([(0, 1), (1, 2)], 1, [1]),
        ([(0, 1), (1, 2), (1, 2)], 2, [2, 1]),
        ([(0, 1), (1, 5), (1, 7)], 7, [7, 1]),
        # a gap: this host was lost for a while and was brought to the others' generation
        ([(0, 1), (1, 9)], 9, [9, 1]),
    ],
)
def test_only_what_came_into_force_has_happened(
    pairs: list[tuple[int, int]], generation: int, expected: list[int]
) -> None:
    lines = [line(*pair) for pair in pairs]
    assert [entry["generation"] for entry in happened(lines, generation)] == expected


def test_a_line_cut_short_is_passed_over(tmp_path: Path) -> None:
    append_history(Context(tmp_path), line(0, 1))
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"from": {"gen')
    assert read_history(tmp_path / "history.jsonl") == [line(0, 1)]


def test_a_line_after_one_cut_short_is_read(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"from": {"gen')
    append_history(Context(tmp_path), line(0, 1))
    assert read_history(tmp_path / "history.jsonl") == [line(0, 1)]
    assert json.loads((tmp_path / "history.jsonl").read_text().splitlines()[-1]) == line(0, 1)
