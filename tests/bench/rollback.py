"""Rollback against an ansible-playbook that does the same, in turn, under load: `python -m tests.bench.rollback DIR`.

Two fronts, each behind an ssh of this machine, 50 requests/s on each. From Enter to the last request that the bad slot
got on any front. The peer is the shortest playbook that does the same: read the status, decide, activate on both
fronts at once; pipelining and ControlPersist are on, facts are off, and it proves nothing afterwards (we do).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.integration.front_stand import REPOSITORY, Load
from tests.integration.rollback_stand import TwoFronts

BAR = 0.25
HOSTSIDE = ["{{ ansible_python_interpreter }}", "-I", "{{ hostside_path }}", "--state", "{{ service_state_dir }}"]
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"command": {"argv": [*HOSTSIDE, "status"]}, "register": "said", "changed_when": False},
            {"set_fact": {"there": "{{ (said.stdout | from_json).generation | int }}"}},
            {
                "command": {
                    "argv": [
                        *HOSTSIDE, "--run", "play{{ fence }}", "--fence", "{{ fence }}", "front", "activate",
                        "--slot", "blue", "--expect", "{{ there }}", "--generation", "{{ there | int + 1 }}",
                    ]
                }
            },
        ],
    }
]  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One rollback: ms from Enter to the last request on the bad slot, and to the prompt."""

    last_bad_ms: float
    total_ms: float


class Bench:
    """Two fronts that are sent to the bad slot again before each rollback."""

    def __init__(self, stand: TwoFronts, directory: Path) -> None:
        self.stand, self.directory = stand, directory
        self.playbook, self.inventory = directory / "rollback.json", directory / "inventory.json"
        self.playbook.write_text(json.dumps(PLAY))
        self.inventory.write_text(json.dumps({"all": {"hosts": {t.name: _variables(t) for t in stand.targets}}}))

    def mcpops(self) -> None:
        """What the person on call types."""
        code, _, heard = self.stand.rollback("--to", "r1")
        assert code == 0, heard

    def ansible(self) -> None:
        """The same by a playbook."""
        program = Path(sys.executable).with_name("ansible-playbook")
        fence = f"fence={int(time.time() * 1000)}"
        argv = [str(program), "-i", str(self.inventory), str(self.playbook), "-e", fence]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def sample(self, how: str) -> Sample:
        """Send both fronts to the bad slot, put load on them, and roll back."""
        for front in self.stand.fronts.values():
            fence = int(front.hostside("status")["fence"]["fence"]) + 1
            front.activate("green", "--healthy-wait-s", "5", run="bad", fence=fence)
        with ExitStack() as stack:
            loads = [stack.enter_context(Load(f, rate=50, threads=5)) for f in self.stand.fronts.values()]
            time.sleep(0.3)
            enter_ns = time.time_ns()
            {"mcpops": self.mcpops, "ansible": self.ansible}[how]()
            total_ns = time.time_ns() - enter_ns
            time.sleep(0.2)
        lost = [answer for load in loads for answer in load.failed]
        assert not lost, lost
        last_bad_ns = max(load.last_sent_to("green") for load in loads)
        return Sample((last_bad_ns - enter_ns) / 1e6, total_ns / 1e6)


def _variables(target: Any) -> dict[str, Any]:
    return {
        "ansible_host": target.address,
        "ansible_port": target.port,
        "ansible_user": target.user,
        "ansible_ssh_private_key_file": target.private_key_file,
        # A connection that the last round left open would not be there at 3 am.
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={target.known_hosts_file} -o ControlPersist=1s",
        "ansible_python_interpreter": target.python,
        "hostside_path": target.hostside_path,
        "service_state_dir": target.state_dir,
    }


def main() -> int:
    """Run, print a table, write the samples; 0 when the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="directory for rollback.json")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--port", type=int, default=18670)
    args = parser.parse_args()
    samples: dict[str, list[Sample]] = {"mcpops": [], "ansible": []}
    with tempfile.TemporaryDirectory() as name, TwoFronts(Path(name), args.port, "ssh") as stand:
        bench = Bench(stand, Path(name))
        for n in range(args.rounds):
            for how in sorted(samples, reverse=bool(n % 2)):
                samples[how].append(bench.sample(how))
    args.results.mkdir(parents=True, exist_ok=True)
    told = {how: [asdict(sample) for sample in rows] for how, rows in samples.items()}
    (args.results / "rollback.json").write_text(json.dumps(told, indent=1) + "\n")
    print(
        "| rollback of two fronts over ssh | rounds | last request on the bad slot, ms: median / max | to the prompt |"
    )
    print("|---|---|---|---|")
    for how, rows in samples.items():
        last = [row.last_bad_ms for row in rows]
        total = statistics.median(row.total_ms for row in rows)
        print(f"| {how} | {len(rows)} | {statistics.median(last):.0f} / {max(last):.0f} | {total:.0f} |")
    medians = {how: statistics.median(row.last_bad_ms for row in rows) for how, rows in samples.items()}
    ratio = medians["mcpops"] / medians["ansible"]
    print(f"\nratio {ratio:.2f} (bar {BAR})")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
