"""How a run is shown: the JSON of the contract, and the story that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcpops.core.clock import SystemClock, to_text
from mcpops.journal.lease import is_dead
from mcpops.journal.queries import Journal
from mcpops.model.outcome import AttemptReport, Outcome
from mcpops.model.run import Run, RunState, StepRecord, StepState
from mcpops.model.step import StepKind

MARKS = {
    StepState.PENDING: "·",
    StepState.RUNNING: "▸",
    StepState.WAITING: "…",
    StepState.DONE: "✓",
    StepState.FAILED: "✗",
    StepState.UNKNOWN: "?",
}


def run_json(journal: Journal, run: Run) -> dict[str, Any]:
    """Return the object of `runs show ID --json`."""
    head, wrong = journal.integrity(run.id)
    return {
        "schema": 1,
        "id": run.id,
        "environment": run.environment,
        "runbook": run.runbook,
        "plan_digest": run.plan_digest,
        "state": run.state.value,
        "interrupted": interrupted(journal, run),
        "exit_code": run.exit_code,
        "reason": run.reason,
        "requested_by": run.requested_by,
        "schedule": run.schedule,
        "first_failure": first_failure(run),
        "started_at": to_text(run.started_at),
        "ended_at": to_text(run.ended_at) if run.ended_at else None,
        "duration_s": _duration_s(run),
        "steps": [step_json(record) for record in run.steps],
        "record": {"head": head, "verified": wrong is None, "problem": wrong},
    }


def step_json(record: StepRecord) -> dict[str, Any]:
    """Return one element of `steps`."""
    first = record.attempts[0] if record.attempts else None
    return {
        "seq": record.seq,
        "name": record.step.name,
        "kind": record.step.kind.value,
        "state": record.state.value,
        "attempts": len(record.attempts),
        "started_at": to_text(first.intent_at) if first else None,
        "duration_s": sum(attempt.duration_ms for attempt in record.attempts) / 1000,
        "reason": record.attempts[-1].reason if record.attempts else "",
        "undo_of": record.undo_of,
        "ways": dict(record.attempts[-1].ways) if record.attempts else {},
        "hosts": AttemptReport(outcome=Outcome.UNKNOWN, results=record.results).hosts(),
        "outputs": dict(record.outputs),
        "results": [
            {
                "host": result.host,
                "task": result.task,
                "outcome": result.outcome.value,
                "message": result.message,
                "duration_ms": result.duration_ms,
                "ignored": result.ignored,
            }
            for result in record.results
        ],
    }


def run_story(journal: Journal, run: Run, *, verbose: bool = False) -> str:
    """Return the run as a person reads it: what, where, how long, what failed first, what to do now."""
    took, left = _duration_s(run), interrupted(journal, run)
    lines = [
        f"run {run.id}: {run.runbook} in {run.environment}, "
        f"asked for by {run.requested_by} at {to_text(run.started_at)}",
        f"{state_word(run, interrupted=left)}{f' after {took:.1f} s' if took is not None else ''}{_because(run)}",
        *_first_failure(run),
        "",
    ]
    for record in run.steps:
        lines += _step_lines(record, verbose=verbose)
        lines += [f"        {decision}" for decision in _decisions(journal, run, record)]
    head, wrong = journal.integrity(run.id)
    lines += ["", f"record: {head} {'verified' if wrong is None else 'NOT VERIFIED: ' + wrong}"]
    hint = what_now(run, interrupted=left)
    return "\n".join([*lines, *([f"now: {hint}"] if hint else [])])


def first_failure(run: Run) -> dict[str, Any] | None:
    """Return what failed first: the step, and of its last try the host, task and message; None when nothing did."""
    bad = (StepState.FAILED, StepState.UNKNOWN)
    record = next((one for one in run.steps if one.state in bad and one.step.kind is not StepKind.UNDO), None)
    if record is None:
        return None
    row = next((one for one in record.results if not one.outcome.good and one.outcome is not Outcome.SKIPPED), None)
    reason = record.attempts[-1].reason if record.attempts else ""
    return {
        "step": record.step.name,
        "host": row.host if row else None,
        "task": row.task if row else None,
        "message": (row.message if row else "") or reason,
    }


def _first_failure(run: Run) -> list[str]:
    first = first_failure(run)
    if first is None:
        return []
    where = f", {first['task']} on {first['host']}" if first["host"] else ""
    return [f"failed first: step {first['step']}{where}: {first['message']}"]


def _decisions(journal: Journal, run: Run, record: StepRecord) -> list[str]:
    """Return who decided on a gate, and how long that counts."""
    decision = journal.decision(run.id, record.seq) if record.step.gate == "approval" else None
    if decision is None:
        return []
    until = f", counts until {to_text(decision.expires_at)}" if decision.expires_at else ""
    return [f"{decision.decision} by {decision.by} at {to_text(decision.at)}{until}"]


def interrupted(journal: Journal, run: Run) -> bool:
    """Whether a run says that it runs, and nobody drives it any more."""
    if run.state is not RunState.RUNNING:
        return False
    held = journal.lease(run.environment)
    if held is not None and held.run_id == run.id and not is_dead(held, SystemClock()):
        return False
    # It may have ended between the two looks: a run gives its lease back as it ends.
    return journal.run(run.id).state is RunState.RUNNING


def what_now(run: Run, *, interrupted: bool = False) -> str:
    """Return what the reader of this run should do, or nothing."""
    if interrupted:
        return f"it was interrupted: `mcpops runs resume {run.id}`, or `mcpops runs abandon {run.id} --yes`"
    if run.state is RunState.WAITING:
        return f"`mcpops approve {run.id}` or `mcpops reject {run.id}`, then `mcpops runs resume {run.id}`"
    if run.state is RunState.BROKEN:
        return (
            f"the environment is locked: mend the hosts, then `mcpops runs resume {run.id}` tries the undo again; or "
            "bring a front that was away to what the others serve (`mcpops rollback --sync`), and give the run up: "
            f"`mcpops runs abandon {run.id} --yes`"
        )
    if run.state is RunState.QUEUED:
        return f"a `mcpops worker` begins it; `mcpops runs watch {run.id}` follows it"
    if run.state is RunState.RUNNING:
        return f"`mcpops runs watch {run.id}`"
    return ""


def state_word(run: Run, *, interrupted: bool) -> str:
    """Return where a run stands, in one word."""
    return "interrupted" if interrupted else run.state.value


def _because(run: Run) -> str:
    return f": {run.reason}" if run.reason else ""


def _duration_s(run: Run) -> float | None:
    return round((run.ended_at - run.started_at).total_seconds(), 3) if run.ended_at else None


def _step_lines(record: StepRecord, *, verbose: bool) -> list[str]:
    took = sum(attempt.duration_ms for attempt in record.attempts) / 1000
    counts = AttemptReport(outcome=Outcome.UNKNOWN, results=record.results).hosts()
    hosts = " ".join(f"{name}={count}" for name, count in counts.items() if count)
    again = f" attempts={len(record.attempts)}" if len(record.attempts) > 1 else ""
    mark = MARKS[record.state] if record.step.kind is not StepKind.UNDO else "↩" + MARKS[record.state]
    lines = [f"  {mark} {record.seq:2} {record.step.name:<16} {took:7.2f} s  {hosts}{again}".rstrip()]
    reason = record.attempts[-1].reason if record.attempts else ""
    if reason:
        lines.append(f"        {reason}")
    changed: dict[str, list[str]] = {}
    for result in record.results:
        if result.outcome is Outcome.CHANGED:
            changed.setdefault(result.task, []).append(result.host)
    if changed and not verbose:
        said = "; ".join(f"{task} ({', '.join(dict.fromkeys(hosts))})" for task, hosts in changed.items())
        lines.append(f"        changed: {said}")
    if verbose and record.attempts and record.attempts[-1].ways:
        lines.append(f"        {_ways(record.attempts[-1].ways)}")
    for result in record.results:
        if verbose or result.outcome in (Outcome.FAILED, Outcome.UNREACHABLE, Outcome.UNKNOWN):
            said = f": {result.message}" if result.message else ""
            lines.append(f"        {result.host}: {result.task}: {result.outcome.value}{said}")
    return lines


def _ways(ways: Mapping[str, Any]) -> str:
    """Return how the commands of an attempt went to the hosts: by a warm server, or by ssh and why."""
    ssh = "; ".join(f"{count} by ssh ({why})" for why, count in sorted(ways["ssh"].items()))
    return f"commands: {ways['warm']} warm{'; ' if ssh else ''}{ssh}"
