"""release: what this host knows about releases, and which of them were verified here.

`releases/<name>.json` is the manifest with `verified_at`; `releases/<name>/` keeps its lock file and files, so that a
release can be staged again without the control node's copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcpops.hostside.state import (
    EXIT_REFUSED,
    EXIT_USAGE,
    SLOTS,
    Context,
    HostError,
    Outcome,
    locked,
    read_json,
    require_fence,
    write_atomic,
    write_error,
    write_json,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-verbs."""
    verbs = parser.add_subparsers(dest="action", required=True)
    verified = verbs.add_parser("verified", help="remember that a release's verify passed here")
    verified.add_argument("name")
    verified.add_argument("--slot", choices=SLOTS, help="the slot that was verified; must hold this release")
    verbs.add_parser("list", help="list the releases known here, newest verified first")


def run(args: argparse.Namespace, context: Context) -> Outcome:
    """Do what the arguments say."""
    if args.action == "list":
        with locked(context):
            return Outcome(changed=False, data={"releases": known(context)})
    return mark_verified(context, args.name, args.slot)


def mark_verified(context: Context, name: str, slot: str | None) -> Outcome:
    """Set `verified_at` of a release (and of the slot that holds it); an earlier mark stays.

    Raises HostError `unknown_release` or `not_staged` (exit 9) when the slot holds something else.
    """
    with locked(context):
        require_fence(context)
        path = context.path("releases", f"{name}.json")
        release = read_json(path)
        if release is None:
            raise HostError("unknown_release", f"no release {name} was ever staged here", exit_code=EXIT_USAGE)
        staged = read_json(context.path("slots", f"{slot}.json")) if slot else None
        if slot and (not staged or staged["release"]["digest"] != release["digest"]):
            holds = staged["release"]["name"] if staged else "nothing"
            raise HostError("not_staged", f"slot {slot} holds {holds}, not {name}", exit_code=EXIT_REFUSED)
        at = context.timestamp()
        changed = not release.get("verified_at") or bool(staged and not staged.get("verified_at"))
        if changed and not context.check:
            write_json(path, {**release, "verified_at": release.get("verified_at") or at})
            if slot and staged:
                write_json(context.path("slots", f"{slot}.json"), {**staged, "verified_at": at})
        return Outcome(changed=changed, data={"release": name, "verified_at": release.get("verified_at") or at})


def known(context: Context) -> list[dict[str, Any]]:
    """Return `{"name", "digest", "verified_at"}` of every release, newest verified first, unverified last."""
    records = [read_json(path) for path in sorted(context.path("releases").glob("*.json"))]
    rows = [{key: record.get(key) for key in ("name", "digest", "verified_at")} for record in records]
    return sorted(rows, key=lambda row: row["verified_at"] or "", reverse=True)


def load(context: Context, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return manifest and contents of a release that was staged before; raises HostError `unknown_release`."""
    record = read_json(context.path("releases", f"{name}.json"))
    if record is None:
        raise HostError(
            "unknown_release",
            f"no release {name} was ever staged here",
            detail="known: " + (", ".join(row["name"] for row in known(context)) or "none"),
            exit_code=EXIT_USAGE,
        )
    manifest = {key: value for key, value in record.items() if key != "verified_at"}
    directory = context.path("releases", name)
    return manifest, {path.name: path.read_text() for path in directory.glob("*")} if directory.is_dir() else {}


def require_own_name(context: Context, release: Mapping[str, Any]) -> None:
    """Refuse a verified release's name for another digest: a rollback by name must mean one thing."""
    record = read_json(context.path("releases", f"{release['name']}.json"))
    if record and record.get("verified_at") and record["digest"] != release["digest"]:
        raise HostError(
            "name_taken",
            f"{release['name']} was verified here as another release",
            detail=f"verified {record['digest']}\ngiven {release['digest']}",
            hint="give the changed release a name of its own",
            exit_code=EXIT_REFUSED,
        )


def remember(context: Context, release: Mapping[str, Any], contents: Mapping[str, str]) -> None:
    """Keep a staged release's manifest and contents; `verified_at` stays when the digest is the same."""
    path = context.path("releases", f"{release['name']}.json")
    record = read_json(path) or {}
    directory = context.path("releases", str(release["name"]))
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise write_error(directory, error) from error
    for name, text in contents.items():
        write_atomic(directory / name, text.encode())
    verified_at = record.get("verified_at") if record.get("digest") == release["digest"] else None
    write_json(path, {**release, "verified_at": verified_at})
