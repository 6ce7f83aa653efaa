"""slot: stage, start, stop, remove or revert what stands in a slot. The active slot is never touched.

The service's own lock is held only while its files are read or written, so a slow stage never delays a rollback.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpops.hostside import releases
from mcpops.hostside.drivers import LOG_LINES, Place, Release, delete_tree, health, key_of, wait_healthy
from mcpops.hostside.maps import close_off
from mcpops.hostside.slot_store import SlotStore
from mcpops.hostside.state import (
    EXIT_REFUSED,
    EXIT_USAGE,
    SLOTS,
    Context,
    HostError,
    Outcome,
    failpoint,
    locked,
    require_fence,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs."""
    verbs = parser.add_subparsers(dest="action", required=True)
    stage = verbs.add_parser("stage", help="install a release in a slot that is not active, start it, wait healthy")
    source = stage.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--manifest", help="manifest file, its lock file and files beside it; - reads a bundle from stdin"
    )
    source.add_argument("--release", help="name of a release that was staged here before")
    for name, text in {
        "start": "start what is staged and wait until it is healthy",
        "stop": "SIGTERM, bounded; stays stopped at the next boot",
        "remove": "stop and delete everything in the slot",
        "revert": "take back what this run staged: the slot gets what it had before",
        "show": "what is staged, does it run, is it healthy, is it exactly the release",
        "logs": "the last lines that the release wrote",
    }.items():
        verbs.add_parser(name, help=text)
    for verb in verbs.choices.values():
        verb.add_argument("slot", choices=SLOTS)
    verbs.choices["show"].add_argument("--digest", help="compare with this release digest, not with what is staged")
    verbs.choices["logs"].add_argument("--lines", type=int, default=LOG_LINES)


def run(args: argparse.Namespace, context: Context) -> Outcome:
    """Do what the arguments say."""
    store = SlotStore.read(context)
    if args.action == "stage":
        release, contents = given_release(args, context)
        return stage(store, args.slot, release, contents)
    if args.action == "show":
        return Outcome(changed=False, data=show(store, args.slot, args.digest))
    if args.action == "logs":
        return Outcome(changed=False, data=logs(store, args.slot, args.lines))
    actions = {"start": start, "stop": stop, "remove": remove, "revert": revert}
    return actions[args.action](store, args.slot)


def given_release(args: argparse.Namespace, context: Context) -> tuple[Release, dict[str, str]]:
    """Return the manifest and the contents that the arguments name; raises HostError `bad_manifest`."""
    if args.release:
        return releases.load(context, args.release)
    try:
        if args.manifest == "-":
            bundle = json.loads(sys.stdin.read())
            release, contents = bundle["manifest"], bundle["contents"]
        else:
            path = Path(args.manifest)
            release = json.loads(path.read_text())
            lock = [release["artifact"]["lock"]] if release["artifact"]["kind"] == "requirements" else []
            contents = {name: (path.parent / name).read_text() for name in [*lock, *release.get("files", {})]}
        _require_plain_names([release["name"], *contents])
        key_of(release)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HostError(
            "bad_manifest", f"the manifest {args.manifest} is not one", detail=repr(error), exit_code=EXIT_USAGE
        ) from error
    return release, contents


def _require_plain_names(names: list[str]) -> None:
    """Raise ValueError for a name that would leave its directory."""
    for name in names:
        if not name or "/" in name or name.startswith("."):
            message = f"not a plain name: {name!r}"
            raise ValueError(message)


def stage(store: SlotStore, slot: str, release: Release, contents: Mapping[str, str]) -> Outcome:
    """Bring a release up in a slot that is not active; repeatable, and `revert` takes it back.

    Raises HostError. What fails before the start (wrong_digest, not_installed, disk_full, ...) leaves the slot as it
    was; what fails after (port_in_use, not_started, not_healthy) leaves it empty, with the displaced release on disk.
    """
    begun = time.monotonic()
    context, place = store.context, store.place(slot)
    store.claim()
    with store.filling_lock(slot):
        exact = _exact(store, place, release)
        with locked(context):
            require_fence(context)
            store.require_idle(slot)
            releases.require_own_name(context, release)
        if exact or context.check:
            return Outcome(changed=not exact, data={"slot": slot, "release": release["name"], "took_s": 0.0})
        record = store.staged(slot)
        if record and record["release"]["digest"] == release["digest"]:
            with store.slot_lock(slot):
                _displace(store, place, release)  # its own files are about to be replaced
        healthy_s = _bring_up(store, place, release, contents)
        _prune(store, place, release)
    took_s = round(time.monotonic() - begun, 3)
    data = {"slot": slot, "release": release["name"], "digest": release["digest"], "took_s": took_s}
    return Outcome(changed=True, data={**data, "healthy_s": round(healthy_s, 3)})


def _bring_up(store: SlotStore, place: Place, release: Release, contents: Mapping[str, str]) -> float:
    """Install, displace what is there, start, wait healthy, write it down; return the seconds from start to healthy.

    Only from the displacement on is the slot locked: whoever must start what it holds need not wait for a download.
    """
    try:
        store.driver.install(place, release, contents)
        failpoint("slot_installed")
    except HostError:
        with store.slot_lock(place.slot):
            _clear(store, place, release)
        raise
    with store.slot_lock(place.slot):
        try:
            return _replace(store, place, release, contents)
        except HostError:
            _clear(store, place, release)
            raise


def _replace(store: SlotStore, place: Place, release: Release, contents: Mapping[str, str]) -> float:
    """Put an installed release in the place of what is there; return the seconds from start to healthy."""
    context = store.context
    _displace(store, place, release)
    failpoint("slot_displaced")
    store.driver.start(place, release)
    healthy_s = wait_healthy(store.driver, place, release)
    failpoint("slot_healthy")
    with locked(context):
        require_fence(context)
        releases.remember(context, release, contents)
        store.put_staged(place.slot, _record_of(context, release))
    return healthy_s


def _record_of(context: Context, release: Release) -> dict[str, Any]:
    """Return a new record of a staged release."""
    at = context.timestamp()
    return {"release": release, "staged_at": at, "run": context.run, "verified_at": None, "stopped": False}


def _exact(store: SlotStore, place: Place, release: Release) -> bool:
    """Tell whether the slot holds exactly this release, runs it, and it is healthy."""
    record = store.staged(place.slot)
    if not record or record["release"]["digest"] != release["digest"] or record.get("stopped"):
        return False
    return store.driver.running(place) == key_of(release) and health(place, release)[0]


def _displace(store: SlotStore, place: Place, release: Release) -> None:
    """Write down what is in the slot, take it out of the record, and let no client in any more.

    A repeated stage keeps the first note. Asks the driver before it takes the service's lock. Raises HostError
    `fenced`, `active`: a newer run may have come while this one installed.
    """
    context = store.context
    running = store.driver.running(place) is not None
    with locked(context):
        require_fence(context)
        store.require_idle(place.slot)
        record, before = store.staged(place.slot), store.before(place.slot)
        if record or not before or before["run"] != context.run:
            note = {"record": record, "running": bool(record) and running, "run": context.run, "staging": release}
            store.put_before(place.slot, note)
        close_off(context, store.service, place.slot)
        store.put_staged(place.slot, None)


def _clear(store: SlotStore, place: Place, release: Release) -> None:
    """Stop and delete a release that did not come up; a release that it has not displaced goes on."""
    try:
        if store.staged(place.slot) is None:
            store.driver.stop(place, float(release["stop_timeout_s"]))
    finally:  # on a full disk `stop` cannot write its note either, and this is what makes room again
        store.driver.discard(place, release)


def _prune(store: SlotStore, place: Place, release: Release) -> None:
    """Delete the directories of releases that are neither staged nor displaced."""
    before = store.before(place.slot)
    keep = {key_of(release)} | ({key_of(before["record"]["release"])} if before and before["record"] else set())
    for directory in place.directory.iterdir():
        if directory.name not in keep:
            delete_tree(directory)


def revert(store: SlotStore, slot: str) -> Outcome:
    """Take back what this run staged. Does nothing when another run staged it, or when it was taken back before."""
    context, place = store.context, store.place(slot)
    store.claim()
    with store.filling_lock(slot), store.slot_lock(slot):
        with locked(context):
            require_fence(context)
            store.require_idle(slot)
            record, before = store.staged(slot), store.before(slot)
            if not before or before["run"] != context.run or (record and record["run"] != context.run):
                return Outcome(changed=False, data={"slot": slot, "release": _name(record)})
            if context.check:
                return Outcome(changed=True, data={"slot": slot, "release": _name(before["record"])})
            close_off(context, store.service, slot)
            store.put_staged(slot, None)
        _clear(store, place, before["staging"])
        old = _restore(store, place, before)
        with locked(context):
            require_fence(context)
            store.put_staged(slot, old)
            store.put_before(slot, None)
    return Outcome(changed=True, data={"slot": slot, "release": _name(old), "running": before["running"]})


def _restore(store: SlotStore, place: Place, before: Mapping[str, Any]) -> dict[str, Any] | None:
    """Bring back what was displaced and return its record; raises HostError when it ran and cannot run again.

    One that stood still and cannot be had any more (its image was deleted, the registry refuses) leaves the slot
    empty: nothing depended on it, and a rollback to it stages it again.
    """
    old: dict[str, Any] | None = before["record"]
    if not old:
        return None
    if not place.home(old["release"]).exists():  # the failed stage was one of the same release
        try:
            store.driver.install(place, *releases.load(store.context, old["release"]["name"]))
        except HostError:
            if before["running"]:
                raise
            return None
    if before["running"]:
        store.driver.start(place, old["release"])
        wait_healthy(store.driver, place, old["release"])
    return old


def start(store: SlotStore, slot: str) -> Outcome:
    """Start what is staged and wait until it is healthy; raises HostError `not_staged` (exit 9) for an empty slot."""
    context, place = store.context, store.place(slot)
    store.claim()
    with store.slot_lock(slot):
        record = store.staged(slot)
        if not record:
            raise HostError("not_staged", f"nothing is staged in slot {slot}", exit_code=EXIT_REFUSED)
        release = record["release"]
        if _exact(store, place, release):
            return Outcome(changed=False, data={"slot": slot, "release": release["name"], "healthy_s": 0.0})
        if context.check:
            return Outcome(changed=True, data={"slot": slot, "release": release["name"]})
        store.driver.start(place, release)
        healthy_s = wait_healthy(store.driver, place, release)
        with locked(context):
            require_fence(context)
            store.put_staged(slot, {**record, "stopped": False})
    return Outcome(changed=True, data={"slot": slot, "release": release["name"], "healthy_s": round(healthy_s, 3)})


def stop(store: SlotStore, slot: str) -> Outcome:
    """Stop a slot that is not active; it stays staged.

    That it is stopped is written down first: from then on nobody activates it, before `start` has started it.
    """
    context, place = store.context, store.place(slot)
    store.claim()
    with store.slot_lock(slot):
        with locked(context):
            require_fence(context)
            store.require_idle(slot)
            record = store.staged(slot)
            if not context.check:
                close_off(context, store.service, slot)
                if record:
                    store.put_staged(slot, {**record, "stopped": True})
        if context.check:
            return Outcome(changed=store.driver.running(place) is not None, data={"slot": slot})
        timeout_s = float(record["release"]["stop_timeout_s"]) if record else 10.0
        changed = store.driver.stop(place, timeout_s)
    return Outcome(changed=changed, data={"slot": slot, "release": _name(record), "running": False})


def remove(store: SlotStore, slot: str) -> Outcome:
    """Stop and delete everything in a slot that is not active."""
    context, place = store.context, store.place(slot)
    store.claim()
    with store.filling_lock(slot), store.slot_lock(slot):
        with locked(context):
            require_fence(context)
            store.require_idle(slot)
            record, before = store.staged(slot), store.before(slot)
            changed = bool(record or before)
            if context.check or not changed:
                return Outcome(changed=changed, data={"slot": slot})
            close_off(context, store.service, slot)
            store.put_staged(slot, None)
            store.put_before(slot, None)
        store.driver.stop(place, 10.0)
        for release in [item["release"] for item in (record, before and before["record"]) if item]:
            store.driver.discard(place, release)
        delete_tree(place.directory)
    return Outcome(changed=True, data={"slot": slot, "removed": _name(record)})


def show(store: SlotStore, slot: str, digest: str | None = None) -> dict[str, Any]:
    """Return what is staged in a slot and what of it is true; `exact` compares with `digest` where one is given."""
    place, record = store.place(slot), store.staged(slot)
    running = store.driver.running(place)
    if not record:
        return {"slot": slot, "release": None, "running": running is not None, "healthy": False, "exact": False}
    release = record["release"]
    healthy, saw = health(place, release) if running else (False, "not running")
    same = running == key_of(release) and (digest is None or digest == release["digest"])
    return {
        "slot": slot,
        "release": release["name"],
        "digest": release["digest"],
        "staged_at": record["staged_at"],
        "verified_at": record["verified_at"],
        "running": running is not None,
        "healthy": healthy,
        "saw": saw,
        "exact": same and healthy,
    }


def logs(store: SlotStore, slot: str, lines: int) -> dict[str, Any]:
    """Return the end of what the slot's release wrote."""
    record = store.staged(slot)
    if not record:
        raise HostError("not_staged", f"nothing is staged in slot {slot}", exit_code=EXIT_REFUSED)
    text = store.driver.logs(store.place(slot), record["release"], lines)
    return {"slot": slot, "release": record["release"]["name"], "log": text}


def _name(record: Mapping[str, Any] | None) -> str | None:
    """Return the release's name of a record."""
    return record["release"]["name"] if record else None
