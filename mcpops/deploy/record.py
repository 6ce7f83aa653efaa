"""A rollback's own small record: written before it acts, so that the journal can take it in afterwards.

The file has the shape of `mcpops runs show --json` (a run with one step), plus `plan` and `fence`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mcpops.core.canonical import digest
from mcpops.core.clock import to_text
from mcpops.core.errors import ExitCode
from mcpops.core.files import write_atomic
from mcpops.deploy.plan import RollbackPlan
from mcpops.model.outcome import AttemptReport
from mcpops.model.run import RunState, StepState

SCHEMA = 1
_STATES = {
    ExitCode.OK: (RunState.DONE, StepState.DONE),
    ExitCode.UNKNOWN: (RunState.FAILED, StepState.UNKNOWN),
}


@dataclass
class RollbackRecord:
    """One rollback on disk: `intend` before each try, `conclude` at the end; both replace the file (0600, fsync)."""

    directory: Path
    id: str
    environment: str
    requested_by: str
    started_at: datetime
    parameters: Mapping[str, Any]
    _data: dict[str, Any] = field(default_factory=dict, init=False)

    @property
    def path(self) -> Path:
        """Where the record is."""
        return self.directory / f"{self.id}.json"

    def intend(self, plan: RollbackPlan, at: datetime) -> None:
        """Write what will be done. Raises OSError."""
        attempts = int(self._data["steps"][0]["attempts"]) + 1 if self._data else 1
        told = plan_json(plan)
        self._data = {
            "schema": SCHEMA,
            "id": self.id,
            "environment": self.environment,
            "runbook": "rollback",
            "plan_digest": digest(told),
            "state": RunState.RUNNING.value,
            "requested_by": self.requested_by,
            "started_at": to_text(self.started_at),
            "ended_at": None,
            "duration_s": None,
            "exit_code": None,
            "reason": "",
            "parameters": dict(self.parameters),
            "fence": plan.fence,
            "plan": told,
            "steps": [
                {
                    "seq": 1,
                    "name": "rollback",
                    "kind": "play",
                    "state": StepState.RUNNING.value,
                    "attempts": attempts,
                    "started_at": to_text(at),
                    "duration_s": None,
                    "hosts": {},
                    "outputs": {},
                    "results": [],
                }
            ],
        }
        self._write()

    def conclude(self, report: AttemptReport, code: ExitCode, at: datetime) -> dict[str, Any]:
        """Write what came of it, and return the whole record. Raises OSError."""
        run_state, step_state = _STATES.get(code, (RunState.FAILED, StepState.FAILED))
        duration_s = round((at - self.started_at).total_seconds(), 3)
        self._data |= {
            "state": run_state.value,
            "ended_at": to_text(at),
            "duration_s": duration_s,
            "exit_code": int(code),
            "reason": report.reason,
        }
        self._data["steps"][0] |= {
            "state": step_state.value,
            "duration_s": round(report.duration_s, 3),
            "hosts": report.hosts(),
            "outputs": dict(report.outputs),
            "results": [{**asdict(row), "outcome": row.outcome.value} for row in report.results],
        }
        self._write()
        return self._data

    def _write(self) -> None:
        write_atomic(self.path, json.dumps(self._data, indent=1, ensure_ascii=False) + "\n")


def plan_json(plan: RollbackPlan) -> dict[str, Any]:
    """Return a plan as JSON: where to, on which fronts, with which right."""
    return {
        "release": plan.release,
        "generation": plan.activation.generation,
        "fence": plan.fence,
        "already": plan.activation.already,
        "moves": [asdict(move) for move in plan.activation.moves],
        "left_out": dict(plan.left_out),
        "reasons": list(plan.activation.reasons),
    }
