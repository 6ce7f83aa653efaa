"""One step through real ansible-runner and real ansible-playbook, with a local connection."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcpops.ansible import play as play_module
from mcpops.ansible import private
from mcpops.ansible.play import PlayCall, run_play
from mcpops.ansible.reap import reap
from mcpops.core import proc
from mcpops.core.secret import Secret
from mcpops.model.outcome import AttemptReport, Outcome, Result

LOCAL = "ansible_connection=local ansible_python_interpreter='{{ ansible_playbook_python }}'"
PARENT = Path(__file__).with_name("play_parent.py")


class Stage:
    """A small project, and a way to run a play in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_id = f"test-{os.getpid()}-{time.monotonic_ns()}"
        self.inventory = root / "hosts.ini"
        self.inventory.write_text(f"[fronts]\nf1 {LOCAL}\nf2 {LOCAL}\n[empty]\n")
        (root / "tree" / "playbooks").mkdir(parents=True)
        self.seen: list[Result] = []
        self.cancel = threading.Event()

    def play(self, tasks: str, hosts: str = "fronts", more: str = "") -> str:
        return f"- name: step\n  hosts: {hosts}\n  gather_facts: false\n{more}  tasks:\n{tasks}"

    def call(self, text: str, **more: Any) -> PlayCall:
        values: dict[str, Any] = {
            "name": "step",
            "play": text,
            "tree": self.root / "tree",
            "inventory": self.inventory,
            "run_id": self.run_id,
            "attempt": 1,
            "fence": 7,
            "timeout_s": 120.0,
        }
        return PlayCall(**(values | more))

    def run(self, tasks: str, *, hosts: str = "fronts", more: str = "", **call: Any) -> AttemptReport:
        return run_play(self.call(self.play(tasks, hosts, more), **call), self.seen.append, self.cancel)

    def left(self) -> list[int]:
        return proc.with_environment("MCPOPS_ATTEMPT", lambda marker: marker.startswith(f"{self.run_id}:"))

    def assert_nothing_left(self, within_s: float = 0.0) -> None:
        eventually(lambda: not self.left(), within_s, lambda: f"processes {self.left()} are left")
        assert private.abandoned(lambda marker: marker.startswith(f"{self.run_id}:")) == []


def eventually(holds: Callable[[], bool], within_s: float, otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{otherwise()} after {within_s:g} s"
        time.sleep(0.05)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_ok_gives_one_result_for_each_task_and_host(stage: Stage) -> None:
    report = stage.run("    - name: check\n      ansible.builtin.assert: {that: [true]}\n")
    assert (report.outcome, report.reason) == (Outcome.OK, "")
    assert {(row.host, row.task, row.outcome) for row in stage.seen} == {
        ("f1", "check", Outcome.OK),
        ("f2", "check", Outcome.OK),
    }
    assert tuple(stage.seen) == report.results
    assert report.hosts() == {"ok": 2, "changed": 0, "failed": 0, "unreachable": 0}
    assert 0 < report.duration_s < 60
    stage.assert_nothing_left()


def test_changed(stage: Stage) -> None:
    report = stage.run("    - ansible.builtin.command: 'true'\n")
    assert report.outcome is Outcome.CHANGED


def test_check_mode_changes_nothing_and_predicts(stage: Stage, tmp_path: Path) -> None:
    tasks = f"    - ansible.builtin.copy: {{dest: {tmp_path}/new, content: abc, mode: '0600'}}\n"
    report = stage.run(tasks, check=True, diff=True)
    assert report.outcome is Outcome.CHANGED
    assert "+abc" in report.results[0].message
    assert not (tmp_path / "new").exists()


def test_failed_says_what_and_where(stage: Stage) -> None:
    tasks = "    - name: break\n      ansible.builtin.fail: {msg: boom}\n      when: inventory_hostname == 'f2'\n"
    report = stage.run(tasks)
    assert (report.outcome, report.reason) == (Outcome.FAILED, "break on f2: boom")


def test_unreachable(stage: Stage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: closed, and nobody else can open it
        port = taken.getsockname()[1]
        stage.inventory.write_text(f"[fronts]\nf1 ansible_host=127.0.0.1 ansible_port={port}\nf2 {LOCAL}\n")
        report = stage.run("    - ansible.builtin.ping:\n")
    assert report.outcome is Outcome.UNREACHABLE
    assert "refused" in report.reason
    assert report.hosts() == {"ok": 1, "changed": 0, "failed": 0, "unreachable": 1}
    stage.assert_nothing_left()


def test_ignored_unreachable_is_seen(stage: Stage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        stage.inventory.write_text(f"[fronts]\nf1 ansible_host=127.0.0.1 ansible_port={taken.getsockname()[1]}\n")
        report = stage.run("    - ansible.builtin.ping:\n", more="  ignore_unreachable: true\n")
    assert report.outcome is Outcome.UNREACHABLE


def test_nothing_but_skips_is_unknown(stage: Stage) -> None:
    report = stage.run("    - ansible.builtin.ping:\n      when: false\n")
    assert (report.outcome, report.reason) == (Outcome.UNKNOWN, "0 hosts took part, expected at least 1")


def test_nothing_but_preparation_is_unknown(stage: Stage) -> None:
    text = stage.play("    - ansible.builtin.ping:\n      when: false\n").replace("facts: false", "facts: true")
    report = run_play(stage.call(text), stage.seen.append, stage.cancel)
    assert report.outcome is Outcome.UNKNOWN


def test_no_host_is_unknown(stage: Stage) -> None:
    report = stage.run("    - ansible.builtin.ping:\n", hosts="empty")
    assert (report.outcome, report.reason) == (Outcome.UNKNOWN, "the play matched no host of the inventory")


def test_a_limit_that_leaves_no_host_is_unknown(stage: Stage) -> None:
    report = stage.run("    - ansible.builtin.ping:\n", limit="nobody")
    assert report.outcome is Outcome.UNKNOWN
    assert "--limit leaves us with no hosts" in report.reason


def test_too_few_hosts_or_checks_are_unknown(stage: Stage) -> None:
    assert stage.run("    - ansible.builtin.ping:\n", minimum_hosts=3).outcome is Outcome.UNKNOWN
    assert stage.run("    - ansible.builtin.ping:\n", minimum_checks=3).outcome is Outcome.UNKNOWN


NOT_ON_F2 = "    - ansible.builtin.ping:\n      when: inventory_hostname == 'f1'\n"
LEAVES = "    - ansible.builtin.meta: end_host\n      when: inventory_hostname == 'f2'\n    - ansible.builtin.ping:\n"
ONCE = "    - ansible.builtin.ping:\n      run_once: true\n"


@pytest.mark.parametrize("more", ["", "  serial: 1\n"])
@pytest.mark.parametrize("tasks", [NOT_ON_F2, LEAVES])
def test_a_host_on_which_nothing_ran_is_unknown_unless_that_is_meant(stage: Stage, tasks: str, more: str) -> None:
    report = stage.run(tasks, more=more)
    assert report.outcome is Outcome.UNKNOWN
    assert report.reason.startswith("nothing ran on f2")
    if not more:
        assert stage.run(tasks, minimum_hosts=1).outcome is Outcome.OK


@pytest.mark.parametrize(
    "tasks", [ONCE, ONCE + NOT_ON_F2.replace("f1", "f2"), f"    - ansible.builtin.ping:\n{LEAVES}"]
)
def test_a_host_that_had_its_part_or_was_given_none_takes_nothing_away(stage: Stage, tasks: str) -> None:
    assert stage.run(tasks).outcome is Outcome.OK


def test_an_ignored_failure_is_not_hidden(stage: Stage) -> None:
    tasks = "    - ansible.builtin.fail: {msg: no}\n      ignore_errors: true\n    - ansible.builtin.ping:\n"
    report = stage.run(tasks)
    assert report.outcome is Outcome.FAILED
    assert [row.ignored for row in report.results if row.outcome is Outcome.FAILED] == [True, True]
    assert sum(row.outcome is Outcome.OK for row in report.results) == 2


def test_a_play_that_cannot_be_read_is_unknown_and_names_the_line(stage: Stage) -> None:
    text = "\n" * 41 + stage.play("    - ansible.builtin.no_such_module:\n")
    report = run_play(stage.call(text, runbook="deploy.yml"), stage.seen.append, stage.cancel)
    assert report.outcome is Outcome.UNKNOWN
    assert "no_such_module" in report.reason
    assert "playbooks/deploy.yml:46" in report.reason
    assert str(private.base_directory()) not in report.reason


def test_an_inventory_that_is_not_there_is_unknown(stage: Stage) -> None:
    report = stage.run("    - ansible.builtin.ping:\n", inventory=stage.root / "none")
    assert report.outcome is Outcome.UNKNOWN


def test_a_timeout_is_unknown_and_ends_everything(stage: Stage) -> None:
    report = stage.run("    - ansible.builtin.command: sleep 61\n", timeout_s=4.0)
    assert (report.outcome, report.reason) == (Outcome.UNKNOWN, "the time limit of the step (4 s) passed")
    assert report.duration_s < 12
    stage.assert_nothing_left()


def test_what_a_task_sends_to_the_background_ends_with_the_step(stage: Stage) -> None:
    """It has a session and no parent of ours: only a subreaper still has it below itself."""
    tasks = "    - ansible.builtin.shell: setsid sleep 63 >/dev/null 2>&1 </dev/null &\n"
    report = stage.run(tasks, limit="f1")
    assert report.outcome is Outcome.CHANGED
    stage.assert_nothing_left()


# The checker hangs: meanwhile the rendered file lies where Ansible keeps what it copies to a host.
RENDER = """\
    - ansible.builtin.template:
        src: {source}
        dest: {target}
        mode: "0600"
        validate: sh -c 'sleep 62; cat %s'
      no_log: true
"""


def rendered(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if b"password rendered-7" in content(path)]


@pytest.mark.parametrize("theirs", [False, True])
def test_a_rendered_secret_does_not_outlive_its_attempt(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, theirs: bool
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "secret.j2").write_text("password {{ password }}")
    if theirs:  # the negative control: where a project names a directory of its own, it is not ours to clean
        (stage.root / "tree" / "ansible.cfg").write_text(f"[defaults]\nremote_tmp = {home}/theirs\n")

    def cancel() -> None:
        eventually(lambda: bool(rendered(home)), 60, lambda: "nothing is rendered")
        stage.cancel.set()

    waiting = threading.Thread(target=cancel)
    waiting.start()
    tasks = RENDER.format(source=tmp_path / "secret.j2", target=tmp_path / "target")
    report = stage.run(tasks, variables={"password": "rendered-7"}, local=True)
    waiting.join(60)
    assert report.reason == "cancelled"
    assert bool(rendered(home)) is theirs
    stage.assert_nothing_left()


def test_the_reaper_removes_what_a_dead_attempt_rendered(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    old, new = private.on_host(f"{stage.run_id}:7:1"), private.on_host(f"{stage.run_id}:8:1")
    for path in (old, new):
        (path / "ansible-tmp-1").mkdir(parents=True)
    reap(stage.run_id, fence=7)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_cancel_is_unknown_and_keeps_what_was_seen(stage: Stage) -> None:
    tasks = "    - {name: first, ansible.builtin.ping: }\n    - ansible.builtin.command: sleep 61\n"

    def on_result(result: Result) -> None:
        stage.seen.append(result)
        if len(stage.seen) == 2:
            threading.Timer(1.0, stage.cancel.set).start()

    report = run_play(stage.call(stage.play(tasks)), on_result, stage.cancel)
    assert (report.outcome, report.reason) == (Outcome.UNKNOWN, "cancelled")
    assert [row.task for row in report.results] == ["first", "first"]
    stage.assert_nothing_left()


def test_what_on_result_raises_ends_the_play_and_comes_out(stage: Stage) -> None:
    def on_result(result: Result) -> None:
        raise RuntimeError(result.host)

    tasks = "    - ansible.builtin.ping:\n    - ansible.builtin.command: sleep 61\n"
    with pytest.raises(RuntimeError, match="f"):
        run_play(stage.call(stage.play(tasks)), on_result, stage.cancel)
    stage.assert_nothing_left()


def test_a_killed_worker_is_unknown_and_its_tree_is_reaped(stage: Stage) -> None:
    def kill_worker() -> None:
        workers = [pid for pid in stage.left() if b"mcpops.ansible.worker" in command(pid)]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)

    def on_result(result: Result) -> None:
        if not stage.seen:
            threading.Timer(0.5, kill_worker).start()
        stage.seen.append(result)

    tasks = "    - ansible.builtin.ping:\n    - ansible.builtin.command: sleep 61\n"
    report = run_play(stage.call(stage.play(tasks)), on_result, stage.cancel)
    assert report.outcome is Outcome.UNKNOWN
    assert "no end" in report.reason
    assert report.duration_s < 20
    stage.assert_nothing_left()


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it just went
        return b""


def command(pid: int) -> bytes:
    return content(Path(f"/proc/{pid}/cmdline"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_parent_leaves_no_process_and_no_file(stage: Stage, tmp_path: Path, number: signal.Signals) -> None:
    text = stage.play(
        f"    - {{name: go, ansible.builtin.ping: }}\n    - ansible.builtin.shell: sleep 61; touch {tmp_path}/late\n"
    )
    (tmp_path / "play.yml").write_text(text)
    argv = [sys.executable, PARENT, stage.root / "tree", stage.inventory, tmp_path / "play.yml", stage.run_id]
    with subprocess.Popen([*map(str, argv)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "go\n"
        eventually(lambda: any(b"sleep" in command(pid) for pid in stage.left()), 20, lambda: "no sleep")
        parent.send_signal(number)
        parent.wait(10)
    stage.assert_nothing_left(within_s=2.0)
    assert not (tmp_path / "late").exists()


def test_when_parent_and_worker_die_at_once_the_reaper_ends_the_rest(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(stage.play("    - ansible.builtin.command: sleep 61\n"))
    argv = [sys.executable, PARENT, stage.root / "tree", stage.inventory, tmp_path / "play.yml", stage.run_id]
    with subprocess.Popen([*map(str, argv)]) as parent:
        eventually(lambda: any(b"sleep" in command(pid) for pid in stage.left()), 20, lambda: "no sleep")
        workers = [pid for pid in stage.left() if b"mcpops.ansible.worker" in command(pid)]
        for pid in (parent.pid, *workers):
            os.kill(pid, signal.SIGSTOP)  # so that neither can clean up after the other
        for pid in (*workers, parent.pid):
            os.kill(pid, signal.SIGKILL)
        parent.wait(10)
    assert stage.left(), "the negative control: without the reaper processes are left"
    assert reap(stage.run_id, fence=0) == 0
    assert reap(stage.run_id, fence=1) > 0
    stage.assert_nothing_left()


def test_known_secrets_are_masked_in_results_outputs_and_reasons(stage: Stage) -> None:
    tasks = """\
    - name: "print {{ password }}"
      ansible.builtin.debug: {msg: "raw {{ password }}, {{ password | b64encode }}, {{ password | urlencode }}"}
    - ansible.builtin.set_stats: {data: {leak: "x {{ password }}"}, aggregate: false}
    - ansible.builtin.command: sh -c 'echo {{ nested.deep[0] | quote }} >&2; exit 1'
"""
    variables = {"password": Secret("hunter/22+x"), "nested": {"deep": [Secret("deep-secret-9")]}}
    report = stage.run(tasks, variables=variables)
    assert report.outcome is Outcome.FAILED
    shown = repr(report) + repr(stage.seen)
    for form in ("hunter", "aHVudGVyLzIyK3", "hunter%2F22", "deep-secret"):
        assert form not in shown
    assert "print ***" in shown
    assert report.outputs == {"leak": "x ***"}


def test_a_secret_at_the_cut_of_a_long_message_is_masked_whole(stage: Stage) -> None:
    task = "    - ansible.builtin.fail: {msg: \"{{ 'x' * 2030 }}{{ p }}{{ 'y' * 9000 }}\"}\n"
    report = stage.run(task, variables={"p": Secret("0123456789abcdefghij" * 2)}, limit="f1")
    assert "x***" in report.results[0].message
    assert "0123" not in repr(report)


def test_without_being_told_the_same_value_is_not_masked(stage: Stage) -> None:
    """The negative control of the test above."""
    say = '    - ansible.builtin.debug: {msg: "raw {{ p }}"}\n'
    report = stage.run(say, variables={"p": "hunter/22+x"})
    assert report.results[0].message == "raw hunter/22+x"
    report = stage.run(say, variables={"p": "hunter/22+x"}, secrets=(Secret("hunter/22+x"),))
    assert report.results[0].message == "raw ***"


def test_no_log_is_respected(stage: Stage) -> None:
    report = stage.run("    - ansible.builtin.command: echo topsecret\n      no_log: true\n")
    assert "topsecret" not in repr(report)


def test_variables_are_data_and_never_templates(stage: Stage, tmp_path: Path) -> None:
    evil = "{{ lookup('ansible.builtin.pipe', 'touch " + str(tmp_path / "pwned") + "') }}"
    variables = {"evil": evil, "plain": {"n": 1, "list": ["a", "b"]}}
    report = stage.run('    - ansible.builtin.debug: {msg: "{{ evil }}|{{ plain.list[1] }}"}\n', variables=variables)
    assert report.results[0].message == f"{evil}|b"
    assert not (tmp_path / "pwned").exists()


def test_no_secret_stands_in_an_argument_an_environment_or_a_file_that_stays(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:planted-in-env@db/x")
    shown: list[bytes] = []
    kept: list[str] = []

    def on_result(result: Result) -> None:
        for pid in stage.left():
            shown.extend(content(Path(f"/proc/{pid}/{name}")) for name in ("cmdline", "environ"))
        for root in private.abandoned(lambda marker: marker.startswith(stage.run_id)):
            files = [path for path in root.rglob("*") if path.is_file()]
            kept.extend(str(path) for path in files if b"planted-in-env" in content(path))
            shown.append((next(root.glob("artifacts/*/command"))).read_bytes())
        stage.seen.append(result)

    call = stage.call(
        stage.play("    - ansible.builtin.ping:\n    - ansible.builtin.command: env\n"),
        variables={"password": Secret("planted-in-variables")},
    )
    run_play(call, on_result, stage.cancel)
    assert len(shown) > 4, "looked at nothing"
    assert all(b"ansible" in text or b"MCPOPS" in text or not text for text in shown)
    assert not any(b"planted-in" in text for text in shown)
    assert kept == []
    stage.assert_nothing_left()


def test_a_call_can_add_to_the_environment(stage: Stage) -> None:
    task = "    - ansible.builtin.debug: {msg: \"{{ lookup('ansible.builtin.env', 'ADDED') }}\"}\n"
    assert stage.run(task, environment={"ADDED": "yes"}).results[0].message == "yes"
    assert stage.run(task).results[0].message == ""


def test_set_stats_are_the_outputs(stage: Stage) -> None:
    tasks = "    - ansible.builtin.set_stats: {data: {slot: green, n: 2, list: [1]}, aggregate: false}\n"
    assert stage.run(tasks).outputs == {"slot": "green", "n": 2, "list": [1]}


def test_outputs_that_are_too_large_are_unknown_and_not_cut(stage: Stage) -> None:
    tasks = "    - ansible.builtin.set_stats: {data: {big: \"{{ 'x' * 70000 }}\"}, aggregate: false}\n"
    report = stage.run(tasks)
    assert (report.outcome, report.outputs) == (Outcome.UNKNOWN, {})
    assert "65536 bytes" in report.reason


def test_a_flood_of_output_is_bounded(stage: Stage) -> None:
    tasks = "    - ansible.builtin.shell: head -c 20000000 /dev/zero | tr '\\0' x; echo the end >&2; exit 3\n"
    report = stage.run(tasks, limit="f1")
    message = report.results[0].message
    assert report.outcome is Outcome.FAILED
    assert len(message.encode()) <= 4096
    assert "the end" in message


def test_output_that_is_not_utf8_is_a_failure_that_says_so(stage: Stage) -> None:
    """Ansible 2.19 refuses such a result; what matters is that the record survives it."""
    tasks = "    - ansible.builtin.shell: printf 'a\\377b\\033[K' >&2; exit 1\n"
    report = stage.run(tasks, limit="f1")
    assert report.outcome is Outcome.FAILED
    assert "UTF8" in report.reason


def test_control_sequences_in_output_do_not_break_the_record(stage: Stage) -> None:
    """ansible-runner finds its events between ESC [ K in the output."""
    tasks = "    - ansible.builtin.shell: printf '\\033[Kabcd\\033[4D\\033[K' >&2; exit 1\n"
    report = stage.run(tasks, limit="f1")
    assert report.outcome is Outcome.FAILED
    assert "abcd" in report.reason


def test_many_hosts_and_serial_plays_are_all_seen(stage: Stage) -> None:
    names = [f"n{number}" for number in range(12)]
    stage.inventory.write_text("[fronts]\n" + "".join(f"{name} {LOCAL}\n" for name in names))
    report = stage.run("    - ansible.builtin.debug: {msg: x}\n", more="  serial: 5\n", minimum_hosts=12)
    assert report.outcome is Outcome.OK
    assert {row.host for row in report.results} == set(names)


def test_the_snapshot_serves_roles_plugins_and_neighbours(stage: Stage) -> None:
    tree = stage.root / "tree"
    files = {
        "roles/hello/tasks/main.yml": "- name: say\n  ansible.builtin.debug: {msg: '{{ 1 | twice }} {{ near }}'}\n",
        "plugins/filter/twice.py": "class FilterModule:\n    filters = lambda self: {'twice': lambda n: n * 2}\n",
        "playbooks/vars/near.yml": "near: neighbour\n",
        "ansible.cfg": "[defaults]\nforks = 3\n",
    }
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    text = "- name: step\n  hosts: f1\n  gather_facts: false\n  vars_files: [vars/near.yml]\n  roles: [hello]\n"
    report = run_play(stage.call(text), stage.seen.append, stage.cancel)
    assert (report.outcome, report.results[0].message) == (Outcome.OK, "2 neighbour")
    assert sorted(path.name for path in (tree / "playbooks").iterdir()) == ["vars"]


def test_a_worker_that_cannot_start_is_unknown_and_shows_why(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play_module, "minimal_environment", lambda more: {**more, "PYTHONHOME": "/nowhere"})
    report = stage.run("    - ansible.builtin.ping:\n")
    assert report.outcome is Outcome.UNKNOWN
    assert "encodings" in report.reason
    stage.assert_nothing_left()
