"""Foreseeing a plan: which hosts each step means, and what Ansible's check mode says would change.

Check mode is no rehearsal: what a step would do after an earlier one changed the world cannot be seen, and a module may
not know it. So a step that check mode cannot judge is said to be unforeseen, and never that nothing would change.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcpops.ansible.inventory import match_hosts
from mcpops.ansible.play import PlayCall, run_play
from mcpops.ansible.vault import Vault
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.step import Step, StepKind

LIMIT_S = 120.0  # for the check of one step: a person waits


@dataclass
class Foreseen:
    """What could be seen of each step: `hosts` by pattern, `reports` and `why` (not) by the step's name."""

    hosts: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    reports: dict[str, AttemptReport] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    def lines(self, name: str) -> list[str]:
        """Return what a person reads of a step."""
        if name not in self.reports:
            return [f"not foreseen: {self.why[name]}"] if name in self.why else []
        texts = [": ".join(filter(None, (row.host, row.task, row.message))) for row in self._changes(name)]
        return ["would change:", *("  " + line for text in texts for line in text.splitlines())] if texts else []

    def to_json(self, name: str, pattern: str) -> dict[str, Any]:
        """Return the same as fields of a step."""
        hosts = self.hosts.get(pattern)
        changes = [{"host": row.host, "task": row.task, "message": row.message} for row in self._changes(name)]
        return {
            "matches": list(hosts) if hosts is not None else None,
            "foreseen": name in self.reports,
            "why_not": self.why.get(name, ""),
            "changes": changes,
        }

    def _changes(self, name: str) -> list[Result]:
        report = self.reports.get(name)
        return [row for row in report.results if row.outcome is Outcome.CHANGED] if report else []


def foresee(
    steps: Sequence[Step], parameters: Mapping[str, Any], snapshot: Path, project: Path, vault: Vault, *, local: bool
) -> Foreseen:
    """Run the plays of a plan in check mode, in their order, as far as one hands on what the next needs."""
    seen = Foreseen(match_hosts(snapshot / "inventory", project, [step.hosts for step in steps]))
    variables = dict(parameters)
    for n, step in enumerate(steps):
        if step.kind is StepKind.GATE or step.direct:
            seen.why[step.name] = "a gate is asked when the run comes to it" if step.gate else "it acts past Ansible"
            continue
        report = _check(n, step, variables, snapshot, vault, local=local)
        if report.outcome.good:
            seen.reports[step.name] = report
            variables.update(report.outputs)
        else:
            seen.why[step.name] = f"check mode says: {report.reason}"
    return seen


def _check(
    n: int, step: Step, variables: Mapping[str, Any], snapshot: Path, vault: Vault, *, local: bool
) -> AttemptReport:
    call = PlayCall(
        name=step.name,
        play=step.body,
        tree=snapshot,
        inventory=snapshot / "inventory",
        run_id=f"plan-{snapshot.parent.name}",
        attempt=n,
        fence=0,
        runbook="plan.yml",
        variables={**variables, "mcpops_run": "plan", "mcpops_fence": 0},
        secrets=vault.secrets,
        environment=vault.settings,
        local=local,
        timeout_s=min(step.timeout_s, LIMIT_S),
        check=True,
        diff=True,
    )
    return run_play(call, lambda _result: None, threading.Event())
