"""`mcpops status`: what serves, who acts, what is overdue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mcpops.cli.common import Session, common_options
from mcpops.core.errors import ExitCode, McpopsError

if TYPE_CHECKING:
    from datetime import datetime

    from mcpops.cli.project import Environment
    from mcpops.cli.record import Record
    from mcpops.remote.fleet import Fleet
    from mcpops.tls.served import Served


@click.command(
    epilog="Exit status: 0 ok, 2 usage, 3 a front did not answer, the fronts disagree, or the journal cannot be read. "
    "A certificate that ends or is not accepted is told and changes no exit status."
)
@common_options
@click.pass_obj
def status(session: Session) -> int:
    """Show what serves, who holds the lease, the last runs, and what is overdue."""
    from mcpops.cli.project import find_environment  # noqa: PLC0415
    from mcpops.cli.targets import fronts_of  # noqa: PLC0415

    environment = find_environment(session)
    fronts = fronts_of(environment, required=False)
    if fronts:
        from mcpops.remote.fleet import Fleet  # noqa: PLC0415

        with Fleet.open(fronts, session.timeout_s or 10.0) as fleet:
            data = {**_fronts(fleet), **_journal(environment), "certificates": _certificates(fleet)}
    else:
        data = {**_NO_FRONTS, **_journal(environment)}
    data = {"environment": environment.name, **data}
    session.emit(data, _text(data))
    return int(ExitCode.UNKNOWN if data["agreed"] is False or data["journal_error"] else ExitCode.OK)


# Of an environment whose runs are all that there is to it.
_NO_FRONTS: dict[str, Any] = {
    "active": {"slot": None, "release": None, "since": None},
    "slots": {},
    "fronts": {},
    "agreed": None,
    "certificates": [],
}


def _fronts(fleet: Fleet) -> dict[str, Any]:
    """Return what the fronts say, and whether all of them say the same."""
    said = {host: answer.output for host, answer in fleet.greetings.items()}
    states = list(said.values())
    active = {(state["active"], state.get("release")) for state in states}
    first: dict[str, Any] = states[0] if states else {}
    since = next((line["at"] for line in first.get("activations") or []), None)
    return {
        "active": {"slot": first.get("active"), "release": first.get("release"), "since": since},
        "slots": {slot: _slot(states, slot) for slot in ("blue", "green")},
        "fronts": {
            **{
                host: {**{key: state.get(key) for key in _FRONT_KEYS}, **(state.get("front") or {})}
                for host, state in said.items()
            },
            **{host: {"unreachable": error.message} for host, error in fleet.errors.items()},
        },
        "agreed": bool(states) and not fleet.errors and len(active) == 1 and all(s.get("in_sync") for s in states),
    }


CERTIFICATE_TIMEOUT_S = 2.0
_FRONT_KEYS = ("active", "release", "generation", "phase", "proxy", "in_sync")


def _slot(states: Sequence[dict[str, Any]], slot: str) -> dict[str, Any]:
    rows = [state["slots"].get(slot) or {} for state in states]
    releases = {row.get("release") for row in rows}
    return {
        "release": releases.pop() if len(releases) == 1 else None,
        "sessions": sum(row.get("sessions") or 0 for row in rows),
        "streams": sum(row.get("streams") or 0 for row in rows),
        "state": "running" if rows and all(row.get("running") for row in rows) else "stopped",
    }


def _certificates(fleet: Fleet) -> list[dict[str, Any]]:
    """Return what each front that answers serves to a client on this machine, looked at now."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from mcpops.remote.fleet import in_parallel  # noqa: PLC0415
    from mcpops.tls.served import look  # noqa: PLC0415

    fronts = {host: answer.output["front"] for host, answer in fleet.greetings.items() if answer.output.get("front")}

    def seen(host: str) -> Served:
        front = fronts[host]
        return look(front["url"], front["server_name"], front.get("ca_pem"), CERTIFICATE_TIMEOUT_S)

    return [_certificate(host, one, datetime.now(UTC)) for host, one in in_parallel(seen, list(fronts)).items()]


def _certificate(host: str, seen: Served, now: datetime) -> dict[str, Any]:
    return {
        "name": seen.name,
        "front": host,
        "url": seen.url,
        "days_left": seen.days_left(now),
        "served": seen.accepted,
        "error": seen.error,
    }


def _journal(environment: Environment) -> dict[str, Any]:
    """Return what the journal says; a project that has never run anything has none.

    `locked_by` is the run whose failed undo locks the environment. `journal_error` says why the rest is not to be had:
    whatever is wrong with a journal, it must not hide what serves.
    """
    data: dict[str, Any] = {
        "lease": None,
        "locked_by": None,
        "runs": [],
        "journal_error": None,
        "backups": [],
        "schedules": [],
        "queued": 0,
        "overdue": [],
    }
    try:
        _read_journal(environment, data)
    except Exception as error:  # noqa: BLE001 - see above; the exit code says unknown
        data["journal_error"] = _why(error)
    return data


def _read_journal(environment: Environment, data: dict[str, Any]) -> None:
    from mcpops.cli.project import STATE, journal_path  # noqa: PLC0415
    from mcpops.cli.record import open_journal  # noqa: PLC0415
    from mcpops.cli.settings import load_settings  # noqa: PLC0415

    state, settings = environment.project / STATE, load_settings(environment.project)
    fresh = not journal_path(environment.project).exists() and (state.is_dir() or not state.exists())
    if fresh and not settings.journal and not settings.schedules:
        return
    record = open_journal(environment.project)
    data |= _acting(record, environment.name)
    data |= _timed(record, environment.name)


def _acting(record: Record, environment: str) -> dict[str, Any]:
    """Return who acts, who locks, who waits, and the last runs."""
    from mcpops.cli.show import interrupted  # noqa: PLC0415
    from mcpops.core.clock import to_text  # noqa: PLC0415
    from mcpops.journal.lease import is_dead  # noqa: PLC0415

    journal, lease = record.journal, record.journal.lease(environment)
    return {
        "lease": lease
        and {
            "run": lease.run_id,
            "doing": lease.doing,
            "holder": lease.holder.split(":")[0],
            "since": to_text(lease.since),
            "fence": lease.fence,
            "interrupted": is_dead(lease, record.clock),
        },
        "locked_by": journal.locked_by(environment),
        "queued": journal.counts(environment).get("queued", 0),
        "runs": [
            {
                "id": run.id,
                "runbook": run.runbook,
                "state": run.state.value,
                "interrupted": interrupted(journal, run),
                "started_at": to_text(run.started_at),
            }
            for run in journal.runs(environment, 5)
        ],
    }


def _timed(record: Record, environment: str) -> dict[str, Any]:
    """Return how the schedules stand, and what is overdue: notices that do not arrive are, too."""
    from mcpops.cli.schedule import standings  # noqa: PLC0415
    from mcpops.core.clock import to_text  # noqa: PLC0415
    from mcpops.journal.outbox import undelivered  # noqa: PLC0415

    rows = standings(record, [one for one in record.settings.schedules if one.environment == environment])
    late = undelivered(record.store)
    waiting = [f"{late.count} notices since {to_text(late.since)}: {late.error}"] if late else []
    return {"schedules": rows, "overdue": [f"schedule {row['name']}" for row in rows if row["overdue"]] + waiting}


def _why(error: Exception) -> str:
    """Return an error in one line; what a database says goes on with the statement and its values."""
    said = ": ".join(filter(None, (error.message, error.detail))) if isinstance(error, McpopsError) else str(error)
    return said.partition("\n")[0] or repr(error)


def _text(data: dict[str, Any]) -> str:
    active = data["active"]
    serves = f"{active['release']} on {active['slot']} since {active['since']}" if active["release"] else "no fronts"
    if data["fronts"] and not active["release"]:
        serves = "nothing serves"
    lines = [f"{data['environment']}: {serves}"]
    if data["agreed"] is False:
        lines.append("  THE FRONTS DO NOT AGREE, or one does not answer: `mcpops rollback --sync` brings them together")
    if data["journal_error"]:
        lines.append(f"  THE JOURNAL CANNOT BE READ: {data['journal_error']}; `mcpops rollback` works without it")
    lines += [
        f"  {slot:<6} {row['release'] or '-':<24} {row['state']:<8} "
        f"{row['sessions']} sessions, {row['streams']} streams"
        for slot, row in data["slots"].items()
    ]
    for host, row in data["fronts"].items():
        said = row.get("unreachable") or f"{row['active']} generation {row['generation']}, {row['phase']}"
        lines.append(f"  {host}: {said}")
    for row in data["certificates"]:
        said = {
            True: f"{row['days_left']} days left",
            False: f"NO CLIENT ACCEPTS IT: {row['error']}",
            None: f"not seen from here: {row['error']}",
        }[row["served"]]
        lines.append(f"  {row['front']}: certificate of {row['name']} at {row['url']}: {said}")
    return "\n".join(lines + _record_lines(data))


def _record_lines(data: dict[str, Any]) -> list[str]:
    """Return what the journal says, for a person."""
    lines, lease = [], data["lease"]
    if lease:
        how = (
            "interrupted: `mcpops runs resume " + lease["run"] + "`"
            if lease["interrupted"]
            else "since " + lease["since"]
        )
        lines.append(f"  lease: run {lease['run']} on {lease['holder']}, {how}")
    if data["locked_by"]:
        lines.append(f"  LOCKED: the undo of run {data['locked_by']} failed: `mcpops runs show {data['locked_by']}`")
    lines += [f"  OVERDUE: {what}" for what in data["overdue"]]
    for row in data["schedules"]:
        lines.append(
            f"  schedule {row['name']}: last success {row['last_success_at'] or 'never'}, next {row['next_at']}"
        )
    if data["queued"]:
        lines.append(f"  {data['queued']} runs are queued for `mcpops worker`")
    for run in data["runs"]:
        lines.append(f"  run {run['id']} {run['runbook']} {'interrupted' if run['interrupted'] else run['state']}")
    return lines
