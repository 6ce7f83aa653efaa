"""Fronts of the mind: a Channel that behaves like hostside's front, with no process behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpops.core.errors import UsageError
from mcpops.model.target import Target
from mcpops.remote.channel import Answer, Channel, Unreachable


@dataclass
class FakeFront:
    """One front: slots blue (r1) and green (r2), active blue as generation 1. `faults`: first words -> what happens."""

    name: str
    active: str = "blue"
    generation: int = 1
    phase: str = "steady"
    fence: int = 0
    slots: dict[str, str] = field(default_factory=lambda: {"blue": "r1", "green": "r2"})
    stopped: set[str] = field(default_factory=set)
    verdict: str = "passed"
    faults: dict[str, Callable[[], Answer | None]] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def target(self) -> Target:
        return Target(
            name=self.name, address="x", connection="local", python="python3", hostside_path="h", state_dir="s"
        )

    def call(self, argv: Sequence[str], deadline_s: float) -> Answer:
        words = list(argv)
        run_fence = 0
        while words[0].startswith("--"):
            run_fence = int(words[1]) if words[0] == "--fence" else run_fence
            words = words[2:]
        self.asked.append(words)
        for start, fault in self.faults.items():
            if " ".join(words).startswith(start):
                made = fault()
                if made is not None:
                    return made
        if words[0] == "status":
            return answer(**self.status())
        if words[:2] == ["front", "verdict"]:
            return answer(verdict=self.verdict, why="said so", ms=80.0 if self.verdict == "tripped" else None)
        if run_fence < self.fence:
            return answer(8, error={"name": "fenced", "message": "lower than mine", "detail": "run x", "hint": ""})
        self.fence = run_fence
        return self.change(words)

    def change(self, words: list[str]) -> Answer:
        options = dict(zip(words[2::2], words[3::2], strict=False)) if words[1] in ("activate", "settle") else {}
        if words[1] == "activate":
            if int(options["--expect"]) != self.generation:
                return answer(9, error={"name": "stale", "message": "stale", "detail": "", "hint": ""})
            self.switch(options["--slot"], int(options["--generation"]), options["--reason"])
            self.phase = "bake" if "--guard-s" in options else "steady"
            return answer(changed=True, switch_ms=4.0, switched_at_ns=time.time_ns(), to={"slot": self.active})
        if words[1] == "settle":
            self.phase, changed = "steady", self.phase == "bake"
            return answer(changed=changed)
        if words[:2] == ["slot", "start"]:
            self.stopped.discard(words[2])
        if words[:2] == ["slot", "stage"]:
            self.slots[words[2]] = words[4]
        return answer(changed=True)

    def switch(self, slot: str, generation: int, reason: str) -> None:
        line = {"generation": generation, "from": {"slot": self.active}, "to": {"slot": slot}, "reason": reason}
        self.active, self.generation = slot, generation
        self.history.insert(0, {**line, "release": self.slots.get(slot)})

    def status(self) -> dict[str, Any]:
        return {
            "active": self.active,
            "generation": self.generation,
            "phase": self.phase,
            "proxy": True,
            "in_sync": True,
            "fence": {"fence": self.fence, "run": "x"},
            "slots": {
                slot: {"release": name or None, "running": slot not in self.stopped, "state": "open"}
                for slot, name in self.slots.items()
            },
            "releases": [{"name": name, "verified_at": f"2026-01-0{n}"} for n, name in enumerate(("r1", "r2"), 1)],
            "activations": self.history,
        }

    def close(self) -> None:
        pass


@dataclass
class FakeTransport:
    """Opens the fakes by name; a name that is not there is a host that is down."""

    fronts: dict[str, FakeFront]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, target: Target, connect_timeout_s: float) -> Channel:
        if target.name not in self.fronts:
            raise Unreachable(target.name, f"{target.name}: no route to host", hint="switch it on")
        return self.fronts[target.name]


def answer(exit_code: int = 0, **output: Any) -> Answer:
    now = time.time_ns()
    return Answer(exit=exit_code, output={"changed": False, **output}, started_at_ns=now, ended_at_ns=now + 1000)


def refuses(name: str, exit_code: int) -> Callable[[], Answer]:
    """An answer that is an error."""
    return lambda: answer(exit_code, error={"name": name, "message": f"it is {name}", "detail": "", "hint": ""})


def gone(host: str) -> Callable[[], Answer]:
    """A channel that ended."""

    def fault() -> Answer:
        raise Unreachable(host, f"{host}: the channel ended")

    return fault


def never() -> Answer:
    """For what must not be asked."""
    raise UsageError("this must not be asked")
