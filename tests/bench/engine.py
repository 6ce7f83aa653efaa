"""What the engine costs: over Ansible, in the journal, and with a long record. `make bench-engine`.

The peer is `ansible-playbook` with the same tuned configuration, in turns with mcpops in one run: ten hosts of this
machine, thirty tasks, 300 results. CPU is that of the whole tree of processes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

from mcpops.core.errors import ExitCode
from mcpops.journal.firings import standing
from mcpops.journal.writes import RunWriter
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import RunState
from tests.unit.engine.stand import Stand, request, step

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
HOSTS, TASKS = 10, 30
LOCAL = "ansible_connection=local ansible_python_interpreter=/usr/bin/python3"


@dataclass(frozen=True)
class Took:
    """What a command took."""

    wall_s: float
    cpu_s: float


def took(argv: list[str], cwd: Path) -> Took:
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = os.environ | {"ANSIBLE_CONFIG": str(cwd / "ansible.cfg")}
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(time.monotonic() - began_s, cpu_s)


def project(home: Path, tasks: int) -> None:
    """A project of one play."""
    (home / "inventories/bench").mkdir(parents=True)
    (home / "playbooks").mkdir()
    (home / "inventories/bench/hosts").write_text("".join(f"h{n} {LOCAL}\n" for n in range(HOSTS)))
    rows = "".join(
        f"    - {{name: t{n}, ansible.builtin.command: 'true', changed_when: false}}\n" for n in range(tasks)
    )
    head = "- name: all\n  hosts: all\n  gather_facts: false\n  vars: {step: {on_interrupt: rerun}}\n  tasks:\n"
    (home / "playbooks/tasks.yml").write_text(head + rows)
    (home / "ansible.cfg").write_text((ROOT / "ansible.cfg").read_text())


def over_ansible(tasks: int, rounds: int) -> dict[str, float]:
    """Ours and the peer's in turns; the least of each, as the machine is shared."""
    with tempfile.TemporaryDirectory(prefix="mcpops-bench-") as name:
        home = Path(name)
        project(home, tasks)
        ours = [str(BIN / "mcpops"), "run", "tasks", "-q"]
        peer = [str(BIN / "ansible-playbook"), "-i", "inventories/bench", "playbooks/tasks.yml"]
        seen: dict[str, list[Took]] = {"ours": [], "peer": []}
        for _ in range(rounds):
            seen["peer"].append(took(peer, home))
            seen["ours"].append(took(ours, home))
    least = {who: Took(min(t.wall_s for t in ts), min(t.cpu_s for t in ts)) for who, ts in seen.items()}
    return {
        "results": HOSTS * tasks,
        "ours_cpu_s": round(least["ours"].cpu_s, 2),
        "peer_cpu_s": round(least["peer"].cpu_s, 2),
        "cpu_ratio": round(least["ours"].cpu_s / least["peer"].cpu_s, 3),
        "wall_ratio": round(least["ours"].wall_s / least["peer"].wall_s, 3),
        "more_wall_s": round(least["ours"].wall_s - least["peer"].wall_s, 2),
    }


def journal(steps: int = 200, results: int = 10) -> dict[str, float]:
    """The journal's part of a step: its intent and its outcome, on this disk."""
    with tempfile.TemporaryDirectory(prefix="mcpops-bench-", dir=ROOT) as name:
        stand = Stand(Path(name), {})
        writer = stand.begin(*(step(f"s{n}") for n in range(steps)))
        rows = tuple(Result(host=f"h{n}", task="t", outcome=Outcome.OK) for n in range(results))
        report = AttemptReport(outcome=Outcome.OK, results=rows)
        each = []
        for seq in range(1, steps + 1):
            began_s = time.perf_counter()
            writer.intend(seq, 1)
            writer.conclude(seq, 1, report)
            each.append((time.perf_counter() - began_s) * 1000)
    return {
        "steps": steps,
        "results_a_step": results,
        "median_ms": round(median(each), 2),
        "max_ms": round(max(each), 1),
    }


def long_record(runs: int) -> dict[str, float]:
    """What commands take that people wait for, with so many runs on record."""
    with tempfile.TemporaryDirectory(prefix="mcpops-bench-", dir="/dev/shm") as name:
        home = Path(name)
        project(home, 1)
        (home / ".mcpops").mkdir(mode=0o700)
        stand = Stand(home / ".mcpops", {})
        report = AttemptReport(outcome=Outcome.OK, results=(Result(host="h0", task="t", outcome=Outcome.OK),))
        for n in range(runs):
            stand.clock.at += timedelta(minutes=1)
            wanted = request(step("one"), environment="bench", schedule="night" if n % 10 == 0 else None)
            writer = RunWriter.begin(stand.store, stand.clock, f"run-{n:06}", wanted)
            writer.intend(1, 1)
            writer.conclude(1, 1, report)
            writer.end(RunState.DONE, ExitCode.OK, "")
        assert standing(stand.store, "bench", "night").last_run_id is not None
        least: dict[str, float] = {"runs": runs}
        asked: dict[str, Callable[[], list[str]]] = {
            "status": lambda: ["status"],
            "runs list": lambda: ["runs", "list"],
            "runs show": lambda: ["runs", "show", f"run-{runs - 1:06}"],
        }
        for command, argv in asked.items():
            walls = []
            for _ in range(5):
                began_s = time.monotonic()
                subprocess.run([BIN / "mcpops", *argv()], cwd=home, capture_output=True, check=False)
                walls.append(time.monotonic() - began_s)
            least[f"{command}_s"] = round(min(walls), 3)
        began_s = time.monotonic()
        assert stand.journal.verify()[1] is None
        least["journal_verify_s"] = round(time.monotonic() - began_s, 1)
    return least


def main() -> int:
    """Print each figure, and write them for `make bench-figures`."""
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/bench")
    figures = {"journal": journal(), "record": long_record(10_000)}
    print(json.dumps(figures), flush=True)
    figures["fixed"] = over_ansible(1, 3)
    figures["300 results"] = over_ansible(TASKS, 2)
    print(json.dumps(figures))
    where.mkdir(parents=True, exist_ok=True)
    (where / "engine.json").write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
