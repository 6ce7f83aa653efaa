"""Runs that nobody at a terminal drives: the queue, workers that die, schedules, and who hears of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mcpops.ansible.call import MARKER
from mcpops.core.proc import with_environment
from tests.e2e.small import Small
from tests.e2e.stand import MCPOPS, wait_for
from tests.servers import create_database

RUNBOOK = """
- name: one
  hosts: m1
  gather_facts: false
  vars: {step: {on_interrupt: rerun}}
  tasks:
    - ansible.builtin.shell: echo one >> {{ effects }}
- name: two
  hosts: m1
  gather_facts: false
  vars: {step: {on_interrupt: rerun}}
  tasks:
    - ansible.builtin.shell: echo began >> {{ effects }}; sleep {{ wait | default(0) }}; echo two >> {{ effects }}
- name: three
  hosts: machines
  gather_facts: false
  vars: {step: {on_interrupt: rerun}}
  tasks:
    - ansible.builtin.copy:
        content: "{{ inventory_hostname }}"
        dest: "{{ effects }}.{{ inventory_hostname }}"
        mode: "0644"
"""


@pytest.fixture(params=["sqlite", "postgres"])
def small(request, tmp_path) -> Small:
    """A project with a runbook of three steps; its journal on each kind of database."""
    small = Small(tmp_path)
    small.write("playbooks/work.yml", RUNBOOK)
    small.write("inventories/small/group_vars/all.yml", f"effects: {tmp_path}/effects\n")
    if request.param == "postgres":
        url = create_database(request.getfixturevalue("postgres_url"), f"q{os.getpid()}{time.monotonic_ns()}")
        small.write("mcpops.yml", f"journal: {url}\n")
    return small


def effects(small: Small) -> list[str]:
    path = small.home / "effects"
    return path.read_text().split() if path.exists() else []


def worker(small: Small, *more: str) -> subprocess.Popen:
    log = (small.home / f"worker-{time.monotonic_ns()}.log").open("w")
    with log:
        return subprocess.Popen([MCPOPS, "worker", *more], cwd=small.home, stdout=log, stderr=log)


def said(small: Small) -> str:
    return "\n".join(path.read_text() for path in sorted(small.home.glob("worker-*.log")))


def test_a_queued_run_is_driven_by_a_worker(small):
    queued = small.run("run", "work", "--queue")
    assert (queued.code, queued.out["state"]) == (0, "queued"), queued.error
    run_id = queued.out["id"]
    assert small.run("runs", "show", run_id).out["state"] == "queued"
    assert effects(small) == []

    assert small.run("worker", "--once").code == 0

    shown = small.run("runs", "show", run_id).out
    assert (shown["state"], shown["record"]["verified"]) == ("done", True), said(small)
    assert effects(small) == ["one", "began", "two"]
    assert watch(small, run_id) == 0


def watch(small: Small, run_id: str) -> int:
    return subprocess.run([MCPOPS, "runs", "watch", run_id], cwd=small.home, timeout=120, check=False).returncode


def test_a_worker_on_another_machine_has_the_files_of_the_run(small, tmp_path):
    """The files travel in the journal: what the asker keeps may be gone."""
    if not (small.home / "mcpops.yml").exists():
        return  # a journal in a file is of one machine
    run_id = small.run("run", "work", "--queue").out["id"]
    other = Small(tmp_path / "other")
    for name in ("mcpops.yml", "inventories/small/group_vars/all.yml"):
        other.write(name, (small.home / name).read_text())
    (small.home / "playbooks/work.yml").write_text(RUNBOOK.replace("one >>", "forged >>"))
    assert not list((small.home / ".mcpops/small/runs").glob("*"))

    ended = other.run("worker", "--once")

    assert ended.code == 0, ended.error
    assert other.run("runs", "show", run_id).out["state"] == "done", ended.said
    assert effects(small) == ["one", "began", "two"]
    assert other.run("journal", "verify").code == 0
    verdict = small.run("journal", "verify")
    assert (verdict.code, "none of those that may sign here" in verdict.out["problem"]) == (1, True)
    key = verdict.out["problem"].split("by the key ")[1].split(",")[0]
    small.write("mcpops.yml", (small.home / "mcpops.yml").read_text() + f"journal_keys: ['{key}']\n")
    assert small.run("journal", "verify").code == 0


def test_what_a_killed_worker_leaves_is_taken_over_by_another(small):
    run_id = small.run("run", "work", "--queue", "-x", "wait=8").out["id"]
    first = worker(small)
    try:
        wait_for(lambda: "began" in effects(small), 60, "the second step is under way")
        first.send_signal(signal.SIGKILL)
        first.wait()
        second = worker(small)
        try:
            assert watch(small, run_id) == 0, said(small)
        finally:
            second.terminate()
            second.wait(60)
    finally:
        first.kill()

    shown = small.run("runs", "show", run_id).out
    assert [step["attempts"] for step in shown["steps"]] == [1, 2, 1]
    assert effects(small).count("one") == 1, "a step that was done is not done again"
    assert effects(small).count("two") == 1, "the command of the killed worker did not go on"
    assert with_environment(MARKER, lambda marker: marker.startswith(run_id)) == []
    assert shown["record"]["verified"]


# -- schedules and notices, on SQLite: the contract of the journal holds both kinds equal

SCHEDULES = """
schedules:
  - {{name: often, environment: small, runbook: work, cron: "* * * * *", max_age: 1h, ping: "{url}/ping/often"}}
  - {{name: never, environment: small, runbook: work, cron: "0 0 1 1 *", max_age: 1h}}
notify:
  - {{name: pager, events: [failed, interrupted, overdue], webhook: {{url: "{url}/hook", secret_file: secret}}}}
metrics_file: mcpops.prom
"""


@pytest.fixture
def heard():
    """A listener for webhooks and pings."""
    seen: list[tuple[str, dict]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(204)
            self.end_headers()

        def do_GET(self):
            seen.append((self.path, {}))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    seen_at = f"http://127.0.0.1:{server.server_port}"
    yield seen_at, seen
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def timed(tmp_path, heard) -> Small:
    small = Small(tmp_path)
    small.write("playbooks/work.yml", RUNBOOK)
    small.write("inventories/small/group_vars/all.yml", f"effects: {tmp_path}/effects\n")
    small.write("mcpops.yml", SCHEDULES.format(url=heard[0]))
    small.write("secret", "hush")
    return small


def test_of_two_ticks_at_once_one_fires_and_success_is_told(timed, heard):
    while time.time() % 60 > 45:  # both within one minute
        time.sleep(1)
    ticks = [timed.start("schedule", "tick") for _ in range(2)]
    ended = [tick.end() for tick in ticks]

    assert sum(len(one.out["fired"]) for one in ended if one.code == 0) == 1, [one.said for one in ended]
    assert effects(timed) == ["one", "began", "two"]
    (run,) = timed.run("runs", "list").out["runs"]
    assert (run["requested_by"], run["state"]) == ("schedule often", "done")
    pings = [path for path, _ in heard[1] if path.startswith("/ping")]
    assert pings == ["/ping/often"]
    told = [body for path, body in heard[1] if path == "/hook"]
    assert [body["event"] for body in told] == ["overdue"], "the one that never succeeded"
    assert "small/never" in told[0]["reason"]

    status = timed.run("status").out
    assert status["overdue"] == ["schedule never"]
    rows = {row["name"]: row for row in status["schedules"]}
    assert rows["often"]["last_success_at"] is not None
    assert rows["never"]["last_success_at"] is None
    metrics = Path(timed.home / "mcpops.prom").read_text()
    assert 'mcpops_schedule_overdue{environment="small",schedule="never"} 1' in metrics
    assert 'mcpops_schedule_overdue{environment="small",schedule="often"} 0' in metrics
    assert timed.run("journal", "verify").code == 0


def test_a_failure_is_told_with_where_it_failed_and_a_dead_run_by_who_comes_next(timed, heard):
    timed.write("playbooks/bad.yml", RUNBOOK.replace("echo one >> {{ effects }}", "exit 3"))
    assert timed.run("run", "bad").code == 1
    ((path, body),) = heard[1]
    assert (path, body["event"], body["runbook"], body["exit_code"]) == ("/hook", "failed", "bad", 1)

    command = timed.start("run", "work", "-x", "wait=30")
    wait_for(lambda: "began" in effects(timed), 60, "the second step is under way")
    command.kill()
    timed.run("schedule", "tick", "--only", "never")

    told = [body for _, body in heard[1] if body.get("event") == "interrupted"]
    assert [body["run"] for body in told] == [command.run_id]
    timed.run("schedule", "tick", "--only", "never")
    assert len([body for _, body in heard[1] if body.get("event") == "interrupted"]) == 1, "told once"
    assert timed.run("runs", "abandon", command.run_id, "--yes").code == 0


def test_timers_are_written_and_name_this_project(timed):
    ended = timed.run("schedule", "install", "--directory", str(timed.home / "units"))

    assert ended.code == 0, ended.error
    assert len(ended.out["units"]) == 4
    service = next((timed.home / "units").glob("*-often.service")).read_text()
    assert f"-C {timed.home} schedule tick -e small --only often" in service
    assert timed.run("schedule", "next", "--count", "3").out["times"][0]["schedule"] == "small/often"
    assert [row["name"] for row in timed.run("schedule", "list").out["schedules"]] == ["often", "never"]
