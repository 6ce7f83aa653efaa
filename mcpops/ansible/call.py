"""PlayCall: everything that one try of one step needs, and the marker that its processes carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcpops.core.secret import Secret

# In the environment of every process of an attempt, for the reaper: run:fence:attempt. It carries the fence
# because a stale controller that reaped by run alone would kill its successor (seen in the prototype).
MARKER = "MCPOPS_ATTEMPT"


@dataclass(frozen=True, kw_only=True)
class PlayCall:
    """One try of one play.

    `play` is the YAML text of the play alone, padded so that its line numbers are those of `runbook`, whose name
    Ansible's messages show. `tree` is the snapshot: playbooks/, roles/, plugins/, ansible.cfg. `variables` are data:
    a `{{` in them is never a template; a value may be a `core.secret.Secret`, at any depth. `secrets` are further
    values to take out of the results. `environment` is added to the minimal environment of the play. `local`: every
    host is this machine, so what Ansible copies to its hosts is removed with the attempt. `scope` is for what `fence`
    counts on hosts (none: they keep no fence), `here` the same on this machine, `beside` fence files of services on
    the hosts, and `deadline` the file that says how long the lease counts.
    """

    name: str
    play: str
    tree: Path
    inventory: Path
    run_id: str
    attempt: int
    fence: int
    runbook: str = "step.yml"
    variables: Mapping[str, Any] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 600.0
    minimum_hosts: int | None = None
    minimum_checks: int = 1
    check: bool = False
    diff: bool = False
    limit: str | None = None
    forks: int = 10
    local: bool = False
    scope: str | None = None
    here: str = ""
    beside: tuple[str, ...] = ()
    deadline: Path | None = None

    @property
    def marker(self) -> str:
        """The value of MCPOPS_ATTEMPT: `run:fence:attempt`."""
        return f"{self.run_id}:{self.fence}:{self.attempt}"
