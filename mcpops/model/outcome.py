"""Outcomes, and the rules that make a verdict: three-valued, and never vacuous."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a try ended, in Ansible's words and one of ours: unknown."""

    OK = "ok"
    CHANGED = "changed"
    SKIPPED = "skipped"  # of one task on one host only; an attempt of nothing but skips is unknown
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"

    @property
    def good(self) -> bool:
        """Whether the next step may follow."""
        return self in (Outcome.OK, Outcome.CHANGED)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One host and task of an attempt, redacted. `ignored`: failed, and the play said to go on."""

    host: str
    task: str
    outcome: Outcome
    message: str = ""
    duration_ms: int = 0
    ignored: bool = False


@dataclass(frozen=True, kw_only=True)
class AttemptReport:
    """What a try of a step came to: the verdict, why, and what it hands on.

    `ways` counts the commands that went to hosts by ssh: `{"warm": 40, "ssh": {why: 2}}`, see docs/explanation/warm.md.
    """

    outcome: Outcome
    reason: str = ""
    results: tuple[Result, ...] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float = 0.0
    ways: Mapping[str, Any] = field(default_factory=dict)

    def hosts(self) -> dict[str, int]:
        """Count hosts by their worst result: `{"ok", "changed", "failed", "unreachable"}`."""
        counts = {"ok": 0, "changed": 0, "failed": 0, "unreachable": 0}
        for outcome in worst_by_host(self.results).values():
            if outcome in counts:
                counts[outcome.value] += 1
        return counts


_SEVERITY = (
    Outcome.SKIPPED,
    Outcome.OK,
    Outcome.CHANGED,
    Outcome.FAILED,
    Outcome.UNREACHABLE,
    Outcome.UNKNOWN,
)


def worst_by_host(results: Iterable[Result]) -> dict[str, Outcome]:
    """Return the worst outcome of each host; an ignored failure stays a failure."""
    worst: dict[str, Outcome] = {}
    for result in results:
        seen = worst.get(result.host, result.outcome)
        worst[result.host] = max(seen, result.outcome, key=_SEVERITY.index)
    return worst


def judge(
    results: Iterable[Result],
    *,
    left: Collection[str] = (),
    minimum_hosts: int | None,
    minimum_checks: int,
    ended: bool,
    exit_good: bool,
) -> tuple[Outcome, str]:
    """Return the verdict of an attempt and its reason, from what was seen and not from a return code alone.

    `left` are hosts that left the play before its end. `ended`: Ansible told its final statistics. `exit_good`: its
    process ended with 0. Nothing vacuous passes: no hosts, too few hosts, too few tasks that really ran, or no end of
    the record is unknown. Without `minimum_hosts`, so is a host that skipped all that it was given, or that left
    before anything ran; one that a run_once task passed by was given nothing.
    """
    rows = list(results)
    worst = worst_by_host(rows)
    for outcome in (Outcome.UNREACHABLE, Outcome.FAILED, Outcome.UNKNOWN):
        bad = sorted(host for host, seen in worst.items() if seen is outcome)
        if bad:
            first = next(row for row in rows if row.outcome is outcome)
            said = f": {first.message}" if first.message else ""
            return outcome, f"{first.task} on {first.host}{said}"
    active = [host for host, seen in worst.items() if seen.good]
    ran = [row for row in rows if row.outcome.good]
    if not ended:
        return Outcome.UNKNOWN, "the record has no end: Ansible told no statistics"
    if not exit_good:
        return Outcome.UNKNOWN, "Ansible ended with an error that no task shows"
    if len(active) < (minimum_hosts or 1):
        return Outcome.UNKNOWN, f"{len(active)} hosts took part, expected at least {minimum_hosts or 1}"
    idle = sorted({*left, *worst} - {*active})
    if idle and minimum_hosts is None:
        return Outcome.UNKNOWN, f"nothing ran on {', '.join(idle)}; where that is meant, say minimum_hosts in step:"
    if len(ran) < minimum_checks:
        return Outcome.UNKNOWN, f"{len(ran)} tasks ran, expected at least {minimum_checks}"
    return (Outcome.CHANGED if Outcome.CHANGED in worst.values() else Outcome.OK), ""
