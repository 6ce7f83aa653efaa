"""What the fronts say of themselves: hostside's `status`, read once into values that the planner takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

SLOTS = ("blue", "green")
NO_SLOT = "none"
STEADY, BAKE = "steady", "bake"
# Who takes a release back says so in the front's history, in the first word of the reason.
TAKEN_BACK = ("rollback", "undo", "guard")


def other(slot: str) -> str:
    """Return the other one of the two slots."""
    return SLOTS[1 - SLOTS.index(slot)]


def same_build(one: str | None, another: str | None) -> bool:
    """Whether two digests do not differ; one that is not told differs from none."""
    return not one or not another or one == another


@dataclass(frozen=True, kw_only=True)
class SlotState:
    """One slot on one front: what is staged there, and whether it runs and answers."""

    release: str | None = None
    digest: str | None = None
    running: bool = False
    healthy: bool | None = None  # None: only the proxy knows, and it is down or only just started
    open: bool = True


@dataclass(frozen=True, kw_only=True)
class KnownRelease:
    """A release that a front can stage again by itself; `verified_at` is RFC 3339 text or None."""

    name: str
    digest: str = ""
    verified_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class PastActivation:
    """One activation on a front.

    `from_slot` is the slot before, NO_SLOT for none, None where the front does not tell. `fence` is the right under
    which it happened: a later right has a higher one.
    """

    generation: int
    slot: str | None
    release: str | None
    from_slot: str | None = None
    at: str = ""
    reason: str = ""
    fence: int = 0

    @property
    def takes_back(self) -> bool:
        """Whether it led away from a release that was no good."""
        return self.reason.startswith(TAKEN_BACK)


@dataclass(frozen=True, kw_only=True)
class FrontState:
    """One front. `active` is None when no slot is; `in_sync`: the proxy's memory and its disk agree.

    `fence` is the highest that the front has seen, `fence_run` the run that came with it. `history` has the newest
    activation first. `front` says where the front is reached: `url`, `server_name`, `ca_pem`.
    """

    host: str
    active: str | None
    generation: int
    phase: str = STEADY
    proxy_up: bool = True
    in_sync: bool = True
    fence: int = 0
    fence_run: str | None = None
    slots: Mapping[str, SlotState]
    releases: tuple[KnownRelease, ...] = ()
    history: tuple[PastActivation, ...] = ()
    front: Mapping[str, Any]

    @property
    def release(self) -> str | None:
        """The release that the active slot holds."""
        return self.slots[self.active].release if self.active else None

    def holders(self, release: str, digest: str = "") -> list[str]:
        """Return the slots that hold a release, the active one first; not as another build than `digest`."""
        order = sorted(SLOTS, key=lambda slot: slot != self.active)
        held = [slot for slot in order if self.slots[slot].release == release]
        return [slot for slot in held if same_build(self.slots[slot].digest, digest)]

    def keeps(self, release: str, digest: str = "") -> bool:
        """Whether the front can stage a release again by itself, as this build."""
        return any(known.name == release and same_build(known.digest, digest) for known in self.releases)

    def place(self, release: str, digest: str = "", wanted: str | None = None) -> tuple[str, bool] | None:
        """Return from which slot this build is to serve, and whether it must be staged there; None if it cannot.

        From `wanted` wherever that can be, else from a slot that holds it, else from the idle one.
        """
        held = self.holders(release, digest)
        free = wanted if wanted != self.active else None  # what is staged is never what serves
        if wanted and wanted in held:
            return wanted, False
        if self.keeps(release, digest) and (free or not held):
            return free or (other(self.active) if self.active else "blue"), True
        return (held[0], False) if held else None

    def build(self, release: str) -> str:
        """Return the digest of what the front means by a name: what was verified there, else what a slot holds.

        Empty where it means nothing by it; what was staged there once and never verified is not meant.
        """
        verified = [known.digest for known in self.releases if known.name == release and known.verified_at]
        return next(filter(None, [*verified, *(self.slots[slot].digest for slot in self.holders(release))]), "")

    def before(self, slot: str) -> str:
        """Return what was active before `slot` was, the other slot or NO_SLOT; what is active, where that is not it."""
        if self.active != slot:
            return self.active or NO_SLOT
        told = [line.from_slot for line in self.history if line.from_slot not in (None, slot)]
        back = (told[0] if told else None) or other(slot)
        return back if back != NO_SLOT and self.slots[back].release else NO_SLOT


def latest(fronts: Sequence[FrontState]) -> FrontState:
    """Return the front on which something was activated last; the same one in whatever order the fronts are named.

    Of several with its generation one that serves, then one that took a release back, then the one with the later
    right, then the first by name.
    """

    def rank(front: FrontState) -> tuple[int, bool, bool, int]:
        last = front.history[0] if front.history else PastActivation(generation=0, slot=None, release=None)
        return front.generation, front.release is not None, last.takes_back, last.fence

    return max(sorted(fronts, key=lambda front: front.host), key=rank)


def taken_back(fronts: Sequence[FrontState]) -> dict[str, int]:
    """Return the releases that any front says were taken back, each with the last generation as which that happened.

    A front that was away meanwhile does not know of it, and need not.
    """
    found: dict[str, int] = {}
    for front in fronts:
        for now, then in pairwise(front.history):
            if now.takes_back and then.release and then.release != now.release:
                found[then.release] = max(now.generation, found.get(then.release, 0))
    return found


def verified_releases(fronts: Sequence[FrontState]) -> list[str]:
    """Return the names of the verified releases, the last verified first."""
    at: dict[str, str] = {}
    for front in fronts:
        for release in front.releases:
            if release.verified_at:
                at[release.name] = max(at.get(release.name, ""), release.verified_at)
    return sorted(at, key=lambda name: at[name], reverse=True)


def served_before(fronts: Sequence[FrontState], newest: FrontState) -> str | None:
    """Return the last verified release that was active on any front before what `newest` serves.

    What any front says was taken back after it was active does not count. The history of a front is short; behind it
    the order of the verifications decides.
    """
    verified, back = verified_releases(fronts), taken_back(fronts)
    past = [line for front in fronts for line in front.history]
    for line in sorted(past, key=lambda line: (-line.generation, line.release or "")):
        counts = line.release in verified and line.release != newest.release
        if line.release and counts and back.get(line.release, 0) < line.generation < newest.generation:
            return line.release
    return next((name for name in verified if name != newest.release and name not in back), None)


def read_front(host: str, status: Mapping[str, Any]) -> FrontState:
    """Return a front from hostside's status; raises ValueError for one that says less than it must."""
    try:
        return FrontState(
            host=host,
            active=_slot(status["active"]),
            generation=int(status["generation"]),
            phase=str(status.get("phase") or STEADY),
            proxy_up=_truth(status.get("proxy")),
            in_sync=bool(status.get("in_sync")),
            fence=_fence(status.get("fence")),
            fence_run=_fence_run(status.get("fence")),
            slots={slot: _slot_state(status["slots"].get(slot) or {}) for slot in SLOTS},
            releases=tuple(
                KnownRelease(name=row["name"], digest=row.get("digest") or "", verified_at=row.get("verified_at"))
                for row in status.get("releases") or []
            ),
            history=tuple(_past(line) for line in status.get("activations") or []),
            front=status.get("front") or {},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{host}: the status lacks something or has it wrong: {error!r}"
        raise ValueError(msg) from error


def _slot(value: Any) -> str | None:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        value = value.get("slot")
    if value in (None, NO_SLOT):
        return None
    if value not in SLOTS:
        msg = f"no slot: {value!r}"
        raise ValueError(msg)
    return str(value)


def _truth(value: Any) -> bool:  # noqa: ANN401 - JSON
    return bool(value.get("up")) if isinstance(value, Mapping) else bool(value)


def _fence(value: Any) -> int:  # noqa: ANN401 - JSON
    return int((value.get("fence") if isinstance(value, Mapping) else value) or 0)


def _fence_run(value: Any) -> str | None:  # noqa: ANN401 - JSON
    return value.get("run") if isinstance(value, Mapping) else None


def _slot_state(row: Mapping[str, Any]) -> SlotState:
    release = row.get("release")
    name = release.get("name") if isinstance(release, Mapping) else release
    digest = release.get("digest") if isinstance(release, Mapping) else row.get("digest")
    return SlotState(
        release=name,
        digest=digest,
        running=bool(row.get("running")),
        healthy=row.get("healthy"),
        open=row.get("state") != "closed",
    )


def _past(line: Mapping[str, Any]) -> PastActivation:
    release = line.get("release")
    return PastActivation(
        generation=int(line["generation"]),
        slot=_slot(line.get("to")),
        release=release.get("name") if isinstance(release, Mapping) else release,
        from_slot=_slot(line["from"]) or NO_SLOT if line.get("from") else None,
        at=str(line.get("at") or ""),
        reason=str(line.get("reason") or ""),
        fence=_fence(line),
    )
