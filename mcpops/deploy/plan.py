"""What to do with the fronts: decided purely, from what they say of themselves.

A plan carries the same new generation for every front and what it expects to find on each, so that a front on which
something happened meanwhile refuses instead of being overrun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mcpops.core.errors import ExitCode, McpopsError, Refused, Unknown, UsageError
from mcpops.core.ids import new_fence
from mcpops.deploy.fleet_state import (
    BAKE,
    NO_SLOT,
    STEADY,
    FrontState,
    SlotState,
    latest,
    served_before,
    verified_releases,
)


@dataclass(frozen=True, kw_only=True)
class Move:
    """What happens on one front: `slot` becomes active as the plan's generation if `expect` is in force until then.

    `holds` is the release that the slot has, and must still have then; None where it is staged first.
    """

    host: str
    slot: str
    expect: int
    holds: str | None = None
    from_slot: str | None
    from_release: str | None
    needs_stage: bool = False
    needs_start: bool = False
    needs_open: bool = False


@dataclass(frozen=True, kw_only=True)
class Activation:
    """New requests go to `release` on every front. `already`: they do, and nothing needs doing."""

    release: str
    generation: int
    moves: tuple[Move, ...]
    already: bool = False
    reasons: tuple[str, ...] = ()

    def only(self, hosts: Sequence[str]) -> Activation:
        """Return the same activation on some of the fronts."""
        return Activation(
            release=self.release,
            generation=self.generation,
            moves=tuple(move for move in self.moves if move.host in hosts),
            already=self.already,
            reasons=self.reasons,
        )


@dataclass(frozen=True, kw_only=True)
class RollbackPlan:
    """Where a rollback goes, on which fronts, with which right; `left_out` says why a front takes no part.

    `history_reason` is what the fronts' history will say.
    """

    activation: Activation
    fence: int
    history_reason: str
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def release(self) -> str:
        """The release that it goes back to."""
        return self.activation.release


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why there is no plan: nothing was changed, and nothing will be."""

    code: ExitCode
    message: str
    detail: str = ""
    hint: str = ""

    def error(self) -> McpopsError:
        """Return the error to raise."""
        kinds: dict[ExitCode, type[McpopsError]] = {ExitCode.USAGE: UsageError, ExitCode.UNKNOWN: Unknown}
        return kinds.get(self.code, Refused)(self.message, detail=self.detail, hint=self.hint)


def plan_cutover(fronts: Sequence[FrontState], slot: str, release: str | None = None) -> Activation | Refusal:
    """Plan that every front sends new requests to `slot`; `release` is what must be staged there, where it is known.

    Refused unless each front has the same release in the slot, running, and a proxy that would take the switch.
    """
    if not fronts:
        return Refusal(code=ExitCode.UNKNOWN, message="no front answered", hint="see the reasons a host above")
    staged = {front.slots[slot].release for front in fronts}
    wanted = release or next(iter(staged))
    for front in fronts:
        problem = _cannot_serve(front, slot, wanted)
        if problem:
            return Refusal(
                code=ExitCode.REFUSED,
                message=f"{front.host}: {problem}",
                detail="nothing was switched on any front",
                hint="stage the release again, or see `hostside status` there",
            )
    build = _one_build(wanted, {front.host: front.slots[slot].digest for front in fronts})
    if isinstance(build, Refusal):
        return build
    assert wanted is not None  # noqa: S101 - an empty slot was refused above
    if all(front.active == slot and front.in_sync for front in fronts) and len({f.generation for f in fronts}) == 1:
        return _already(fronts, wanted, {front.host: slot for front in fronts})
    return Activation(
        release=wanted,
        generation=_next(fronts),
        moves=tuple(_move(front, slot) for front in fronts),
        reasons=(f"{slot} holds {wanted} on all {len(fronts)} fronts",),
    )


def plan_undo(fronts: Sequence[FrontState], slot: str) -> Activation | Refusal:
    """Plan that no front sends new requests to `slot`: each goes back to what was active there before.

    Where that was nothing (a first deploy, or a front that is new), nothing serves afterwards, as nothing did before.
    """
    if not fronts:
        return Refusal(code=ExitCode.UNKNOWN, message="no front answered")
    slots = {front.host: front.before(slot) for front in fronts}
    held = [front.slots[slots[front.host]].release for front in fronts if slots[front.host] != NO_SLOT]
    release = next(filter(None, held), NO_SLOT)
    if all(front.active != slot and front.phase == STEADY and front.in_sync for front in fronts):
        return _already(fronts, release, slots)
    return Activation(
        release=release,
        generation=_next(fronts),
        moves=tuple(_move(front, slots[front.host]) for front in fronts),
        reasons=(f"away from {slot}, back to {release}",),
    )


def plan_rollback(
    fronts: Sequence[FrontState], *, now: datetime, to: str | None = None, unreachable: Mapping[str, str] | None = None
) -> RollbackPlan | Refusal:
    """Plan that every front that answered serves a release which was verified before: `to`, or the one before this.

    Refused (9) when no release is verified, or its name stands for two builds; usage (2) when `to` is unknown, unknown
    (3) when no front answered. A front that cannot get the release is left out, with the reason.
    """
    if not fronts:
        return Refusal(code=ExitCode.UNKNOWN, message="no front answered", detail=_lines(unreachable or {}))
    target = _named(fronts, to) if to else _target(fronts)
    if isinstance(target, Refusal):
        return target
    return _all_to(fronts, *target, now=now, unreachable=unreachable)


def _all_to(
    fronts: Sequence[FrontState],
    release: str,
    reason: str,
    *,
    now: datetime,
    unreachable: Mapping[str, str] | None,
    slot: str | None = None,
) -> RollbackPlan | Refusal:
    """Plan that the fronts serve a release, from `slot` wherever that can be, else from the slot that holds it."""
    build = _one_build(release, {front.host: front.build(release) for front in fronts})
    if isinstance(build, Refusal):
        return build
    moves, never = _moves(fronts, release, build, slot)
    left_out = {**(unreachable or {}), **never}
    if not moves:
        return Refusal(code=ExitCode.REFUSED, message=f"no front can serve {release}", detail=_lines(left_out))
    activation = Activation(
        release=release,
        generation=_next(fronts),
        moves=moves,
        already=not _behind(fronts, moves),
        reasons=(reason,),
    )
    left = ", ".join(sorted({move.from_release or "nothing" for move in moves} - {release})) or release
    return RollbackPlan(
        activation=activation,
        fence=_fence(fronts, now),
        left_out=left_out,
        history_reason=f"rollback: {left} -> {release}",
    )


def _one_build(release: str | None, builds: Mapping[str, str | None]) -> str | Refusal:
    """Return the digest that a release's name stands for on all fronts, empty where none tells; or why not one."""
    told = {host: digest for host, digest in sorted(builds.items()) if digest}
    if len(set(told.values())) <= 1:
        return next(iter(told.values()), "")
    return Refusal(
        code=ExitCode.REFUSED,
        message=f"{release} is not the same build on every front",
        detail=_lines(told),
        hint="go to another release: mcpops rollback --to; or deploy the right build under a name of its own",
    )


def _moves(
    fronts: Sequence[FrontState], release: str, build: str, wanted: str | None
) -> tuple[tuple[Move, ...], dict[str, str]]:
    """Return what brings the fronts to a release, and why which ones cannot get it."""
    places = {front.host: front.place(release, build, wanted) for front in fronts}
    moves = [_move(front, at[0], stage=at[1]) for front in fronts if (at := places[front.host])]
    serving, never = {move.slot for move in moves}, [front for front in fronts if not places[front.host]]
    return tuple(moves), {front.host: f"{_lacks(front, release)}; {_way_in(front, serving)}" for front in never}


def _lacks(front: FrontState, release: str) -> str:
    """Return why a front cannot stage the right build of a release by itself."""
    if front.keeps(release):
        digest = next(known.digest for known in front.releases if known.name == release)
        return f"what it keeps as {release} is another build ({digest}), never verified there"
    return f"{release} was never staged there"


def _way_in(front: FrontState, serving: set[str]) -> str:
    """Return how a front that never had what the others serve, from these slots, gets to serve the same."""
    if front.active is None or front.active in serving:
        return "the next deploy brings it in"
    way_out = "let it serve nothing first (hostside front activate --slot none)"
    return f"it serves {front.release} from the slot that the next deploy needs: {way_out}"


def plan_sync(
    fronts: Sequence[FrontState], *, now: datetime, unreachable: Mapping[str, str] | None = None
) -> RollbackPlan | Refusal:
    """Plan that the fronts which were away catch up with the one on which something was activated last."""
    if not fronts:
        return Refusal(code=ExitCode.UNKNOWN, message="no front answered", detail=_lines(unreachable or {}))
    newest = latest(fronts)
    if newest.release is None:
        return _nothing_serves(fronts, newest)
    if newest.phase == BAKE:
        return Refusal(
            code=ExitCode.REFUSED,
            message=f"a deploy is under way: {newest.host} bakes {newest.release}",
            hint="wait for it, or take it back: mcpops rollback",
        )
    reason = f"{newest.release} was activated last ({newest.host})"
    plan = _all_to(fronts, newest.release, reason, now=now, unreachable=unreachable, slot=newest.active)
    if isinstance(plan, Refusal):
        return plan
    behind = _behind(fronts, plan.activation.moves)
    # The same generation as the others have, where the lagging front is behind it: they are left alone.
    alone = behind and all(move.expect < newest.generation for move in behind)
    activation = replace(plan.activation, moves=behind, generation=newest.generation) if alone else plan.activation
    last = newest.history[0].reason if newest.history else ""
    return replace(plan, activation=activation, history_reason=last or plan.history_reason)


def _nothing_serves(fronts: Sequence[FrontState], newest: FrontState) -> Refusal:
    """Return why there is nothing to catch up with: the front that acted last serves nothing."""
    others = {front.host: front.release for front in fronts if front.release}
    if not others:
        return Refusal(code=ExitCode.REFUSED, message="no front serves a release", hint="mcpops deploy RELEASE")
    return Refusal(
        code=ExitCode.REFUSED,
        message=f"{newest.host} was activated last, and serves nothing",
        detail=_lines(others),
        hint="take back what the others serve: mcpops rollback; or deploy what all shall serve",
    )


def taken_over(fronts: Sequence[FrontState], run: str, fence: int) -> Refusal | None:
    """Return why `run`, whose last fence was `fence`, must not go on: another run acted on a front since."""
    others = {front.host: front.fence_run for front in fronts if front.fence > fence and front.fence_run != run}
    if not others:
        return None
    return Refusal(
        code=ExitCode.REFUSED,
        message=f"{', '.join(others)}: another run acted there since run {run} stopped",
        detail="\n".join(f"{host}: run {other}" for host, other in others.items()),
        hint=f"`mcpops status` shows what serves; `mcpops runs abandon {run} --yes`, then begin anew",
    )


def _named(fronts: Sequence[FrontState], name: str) -> tuple[str, str] | Refusal:
    verified = verified_releases(fronts)
    known = {release.name for front in fronts for release in front.releases} | {front.release for front in fronts}
    if name in verified or name in {front.release for front in fronts}:
        return name, f"{name} was asked for"
    if name in known:
        return Refusal(
            code=ExitCode.REFUSED,
            message=f"{name} was never verified on these fronts",
            detail=f"verified: {', '.join(verified) or 'none'}",
            hint=f"deploy it: mcpops deploy {name}",
        )
    return Refusal(
        code=ExitCode.USAGE,
        message=f"no release {name} on these fronts",
        detail=f"known: {', '.join(sorted(filter(None, known))) or 'none'}",
        hint="name one of the known ones with --to",
    )


def _target(fronts: Sequence[FrontState]) -> tuple[str, str] | Refusal:
    """Return the release to go back to and why, or why there is none."""
    verified, newest = verified_releases(fronts), latest(fronts)
    leaving, last = newest.release, newest.history[0] if newest.history else None
    if leaving in verified and newest.phase == STEADY and last and last.takes_back:
        mixed = len({front.release for front in fronts}) > 1
        why = "the fronts disagree: not on all of them" if mixed else "to go further back name one with --to"
        return leaving, f"a release was taken back already ({last.reason}); {why}"
    before = served_before(fronts, newest)
    if before:
        return before, f"the last verified release before {leaving or 'nothing'}"
    return Refusal(
        code=ExitCode.REFUSED,
        message=f"no verified release before {leaving}" if leaving else "no verified release",
        detail=f"verified: {', '.join(verified) or 'none'}",
        hint="a release is verified once a deploy of it went through; deploy one that works",
    )


def _cannot_serve(front: FrontState, slot: str, release: str | None) -> str:
    state = front.slots[slot]
    if state.release is None:
        return f"slot {slot} is empty"
    if state.release != release:
        return f"slot {slot} holds {state.release}, not {release}"
    if not front.proxy_up:
        return "the proxy is down"
    if not state.running:
        return f"{state.release} does not run in slot {slot}"
    return ""


def _behind(fronts: Sequence[FrontState], moves: Sequence[Move]) -> tuple[Move, ...]:
    """Return the moves of the fronts that are not where the move leads, or whose proxy does not know it for good."""
    whole = {front.host for front in fronts if front.proxy_up and front.in_sync and front.phase == STEADY}
    return tuple(m for m in moves if m.host not in whole or m.needs_stage or m.slot != m.from_slot)


def _move(front: FrontState, slot: str, *, stage: bool = False) -> Move:
    state = front.slots.get(slot) or SlotState(running=True)  # no slot needs nothing
    return Move(
        host=front.host,
        slot=slot,
        expect=front.generation,
        holds=None if stage else state.release,
        from_slot=front.active,
        from_release=front.release,
        needs_stage=stage,
        needs_start=not stage and not state.running,
        needs_open=not state.open,
    )


def _already(fronts: Sequence[FrontState], release: str, slots: Mapping[str, str]) -> Activation:
    return Activation(
        release=release,
        generation=max(front.generation for front in fronts),
        moves=tuple(_move(front, slots[front.host]) for front in fronts),
        already=True,
        reasons=("it is already so on every front",),
    )


def _next(fronts: Sequence[FrontState]) -> int:
    return max(front.generation for front in fronts) + 1


def _fence(fronts: Sequence[FrontState], now: datetime) -> int:
    return new_fence(now, max(front.fence for front in fronts))


def _lines(reasons: Mapping[str, str]) -> str:
    return "\n".join(f"{host}: {why}" for host, why in reasons.items())
