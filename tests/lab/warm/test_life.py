"""Nothing outlives its right to act: runs that are killed, cut off, or whose hosts restart, on real hosts."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpops.lab.lab import Lab, to_stderr

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = str(Path(sys.executable).parent / "ansible-playbook")
WITHIN_S = 5.0
# What stays of a connection that Ansible keeps for later (ControlPersist), and of whoever looks.
OF_SSH = ("sshd", "systemd --user", "(sd-pam)", "ps -eo")
PLACES = "/tmp /var/tmp /dev/shm /run/user /run/lock /root/.ansible /home/ops/.ansible"
# Each kind of moment: a module that works and has children, files on their way, a pause between tasks.
TASKS = """
- hosts: all
  gather_facts: false
  become: true
  tasks:
    - name: Work
      ansible.builtin.{task}
"""
LOOP = """\
      loop: "{{ range(40) | list }}"
"""
# The module stays alone: in a loop, one that is lost counts as an item and the next begins.
WORK = {
    "shell": "shell: 'sleep 0.2; (sleep 30 & echo $! >&2; sleep 0.1; kill $!)'",
    "copy": 'copy: {content: "{{ 999 | random }} secret", dest: /etc/warm-life, mode: "0600"}',
    "module": "command: sleep 30",
}


def play(work: str) -> str:
    return TASKS.format(task=WORK[work]) + ("" if work == "module" else LOOP)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab("warmlife", say=to_stderr)
    made.down()
    made.up(["w1", "w2"])
    for name in ("w1", "w2"):
        made[name].ssh(
            "useradd -m -s /bin/bash ops && install -d -o ops -g ops -m 700 ~ops/.ssh && "
            "install -o ops -g ops -m 600 ~/.ssh/authorized_keys ~ops/.ssh/ && "
            "echo 'ops ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/ops && chmod 440 /etc/sudoers.d/ops && "
            "ln -s /usr/bin/python3 /usr/local/bin/py3"
        )
    yield made
    made.down()


@pytest.fixture
def project(lab: Lab, tmp_path: Path) -> Path:
    common = f"-o UserKnownHostsFile={lab.directory}/known_hosts"
    variables = {
        "ansible_connection": "warm", "ansible_ssh_private_key_file": f"{lab.directory}/key",
        "ansible_ssh_common_args": common, "ansible_python_interpreter": "/usr/bin/python3", "ansible_user": "ops",
    }  # fmt: skip
    hosts = {name: {"ansible_host": lab[name].ipv4} for name in ("w1", "w2")}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"vars": variables, "hosts": hosts}}))
    return tmp_path


def start(project: Path, text: str, *more: str, **variables: str) -> subprocess.Popen[str]:
    (project / "play.yml").write_text(text)
    environment = {
        **os.environ, "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "plugins/connection"), "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_WARM_LOG": str(project / "ways"), "ANSIBLE_CONFIG": str(project / "none.cfg"), **variables,
    }  # fmt: skip
    with (project / "said").open("w") as said:  # a pipe would be held by what outlives the main process
        return subprocess.Popen(
            [PLAYBOOK, "-i", "hosts.yml", "play.yml", *more], cwd=project, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip


def run(project: Path, text: str, *more: str, **variables: str) -> str:
    process = start(project, text, *more, **variables)
    said = end(process, project)
    assert process.returncode == 0, said
    return said


def end(process: subprocess.Popen[str], project: Path) -> str:
    process.wait(180)
    return (project / "said").read_text()


def ways(project: Path) -> list[tuple[str, str, str]]:
    rows = map(json.loads, (project / "ways").read_text().splitlines())
    return [(row["way"], row["what"], row["why"]) for row in rows]


def processes(lab: Lab, host: str) -> dict[int, str]:
    said = lab[host].ssh("ps -eo pid=,args=").stdout.splitlines()
    rows = (line.split(None, 1) for line in said)
    return {int(pid): args for pid, args in rows if not args.startswith("[") and not any(of in args for of in OF_SSH)}


def files(lab: Lab, host: str) -> set[str]:
    which = "-path '*/systemd*' -prune -o -type f -print -o -name 'ansible-tmp*' -print"
    return set(lab[host].ssh(f"find {PLACES} {which} 2>/dev/null; true").stdout.split())


def left(lab: Lab, before: dict[str, tuple[dict[int, str], set[str]]]) -> list[str]:
    found = []
    for host, (pids, paths) in before.items():
        found += [f"{host}: {args}" for pid, args in processes(lab, host).items() if pid not in pids]
        found += [f"{host}: {path}" for path in files(lab, host) - paths]
    return found


def wait_for_module(lab: Lab) -> None:
    end_s = time.monotonic() + 60
    while not all("sleep 30" in processes(lab, host).values() for host in ("w1", "w2")):
        assert time.monotonic() < end_s, "the module does not run within 60 s"
        time.sleep(0.2)


def killed(lab: Lab, project: Path, work: str, user: str, wait_s: float) -> list[str]:
    """What is on the hosts 5 s after the main process of a run was killed in its midst."""
    before = {host: (processes(lab, host), files(lab, host)) for host in ("w1", "w2")}
    process = start(project, play(work), "-e", f"ansible_user={user}")
    try:
        if work == "module":
            wait_for_module(lab)
        end_s = time.monotonic() + 60
        while not (project / "ways").exists() and work != "module":
            assert time.monotonic() < end_s, "no task within 60 s"
            time.sleep(0.05)
        time.sleep(wait_s)
        assert process.poll() is None, (project / "said").read_text()
        process.send_signal(signal.SIGKILL)
        end_s = time.monotonic() + WITHIN_S
        process.wait()
        while (found := left(lab, before)) and time.monotonic() < end_s:
            time.sleep(0.2)
        return found
    finally:
        process.kill()
        process.wait()


MOMENTS = [(work, user) for work in WORK for user in ("root", "ops")]


@pytest.mark.parametrize(("work", "user"), MOMENTS)
def test_after_a_kill_nothing_is_left_on_the_hosts(lab, project, work, user):
    assert killed(lab, project, work, user, random.Random(f"{work}{user}").uniform(0, 2)) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_after_a_kill_at_any_moment_nothing_is_left_on_the_hosts(lab, project, seed):
    dice = random.Random(seed)
    work, user = dice.choice(MOMENTS)

    assert killed(lab, project, work, user, dice.uniform(0, 4)) == []


def test_the_look_would_have_seen_something(lab, project):
    """With plain ssh a module goes on: the same look finds it."""
    before = {host: (processes(lab, host), files(lab, host)) for host in ("w1", "w2")}
    process = start(project, play("module"), "-e", "ansible_warm=false", ANSIBLE_PIPELINING="True")
    wait_for_module(lab)
    process.kill()
    process.wait()
    time.sleep(1)

    assert any("sleep 30" in row for row in left(lab, before))
    for host in before:
        lab[host].ssh("pkill -x sleep; true")


def test_with_the_connection_ends_the_module(lab, project):
    before = {host: (processes(lab, host), files(lab, host)) for host in ("w1", "w2")}
    process = start(project, play("module"))
    wait_for_module(lab)
    for host in before:
        lab[host].ssh("pkill -x -u ops sshd; true")
    end_s = time.monotonic() + WITHIN_S
    while (found := left(lab, before)) and time.monotonic() < end_s:
        time.sleep(0.2)
    said = end(process, project)

    assert found == []
    assert process.returncode == 4, said
    assert "what it did is not known" in said


REBOOT = """
- hosts: w1
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.command: cat /proc/sys/kernel/random/boot_id
      register: before
    - ansible.builtin.reboot: {reboot_timeout: 90}
    - ansible.builtin.command: cat /proc/sys/kernel/random/boot_id
      register: after
    - ansible.builtin.assert: {that: before.stdout != after.stdout}
    - ansible.builtin.meta: reset_connection
    - ansible.builtin.command: id -un
      register: who
    - ansible.builtin.assert: {that: who.stdout == 'root'}
"""


def test_a_host_that_restarts_and_a_connection_that_is_reset_get_a_new_server(lab, project):
    boot_id = lab["w1"].boot_id()
    run(project, REBOOT)

    assert lab["w1"].boot_id() != boot_id
    assert [way for way in ways(project) if way[1] == "command" and way[2] == ""] == [("warm", "command", "")] * 3


DELEGATE = """
- hosts: all
  gather_facts: false
  strategy: free
  become: true
  tasks:
    - ansible.builtin.command: hostname
      delegate_to: w2
      loop: "{{ range(5) | list }}"
      register: said
    - ansible.builtin.assert: {that: "said.results | map(attribute='stdout') | unique | list == ['w2']"}
"""


def test_several_hosts_may_ask_one_at_once(lab, project):
    run(project, DELEGATE)

    assert {way for way, _, _ in ways(project)} == {"warm"}


PING = """
- hosts: w1
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.ping:
    - ansible.builtin.ping:
"""


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("-e", "ansible_warm=false", "-e", "ansible_pipelining=true"), "switched off"),
        (("-e", "ansible_become_password=x"), "sudo asks for a password"),
        (("-e", "ansible_become_user=ops", "-e", "ansible_user=root"), "another become than sudo to root"),
        (("-e", "ansible_python_interpreter=/usr/local/bin/py3"), "another interpreter than a plain Python"),
    ],
)
def test_what_is_not_known_for_certain_goes_by_ssh_and_says_why(lab, project, more, why):
    said = run(project, PING, *more, "-vvv")

    assert {(way, told) for way, _, told in ways(project)} == {("ssh", why)}
    assert f"by ssh: {why}" in said


def test_one_variable_of_the_environment_turns_it_off(lab, project):
    run(project, PING, ANSIBLE_WARM="false")

    assert {(way, why) for way, _, why in ways(project)} == {("ssh", "switched off")}


def test_a_server_that_cannot_start_is_tried_once(lab, project):
    """A Python without what the server needs: one try, then every task by ssh, with the same results."""
    lab["w1"].put("/opt/bad/python3", '#!/bin/sh\n[ "$1" = -c ] && exit 3\nexec /usr/bin/python3 "$@"\n', mode=0o755)
    said = run(project, PING, "-e", "ansible_python_interpreter=/opt/bad/python3", "-vvv")

    assert said.count("no server answers") == 1
    assert [(way, why) for way, what, why in ways(project) if what == "ping"] == [
        ("ssh", "no server can be started"), ("ssh", "no server can be there"),
    ]  # fmt: skip


def test_a_version_that_is_not_known_stands_aside_and_says_so_once(lab, project):
    """The installed Ansible with another word in its wrapper, as a new version would have."""
    site = project / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import ansible.executor.module_common as common\n"
        "plain = common._get_ansiballz_code\n"
        "common._get_ansiballz_code = lambda shebang: plain(shebang).replace('temp_path', 'temporary_path')\n"
    )
    said = run(project, PING, PYTHONPATH=shlex.quote(str(site)))

    assert said.count("a wrapper of another version of ansible-core; it takes the ordinary way from here on") == 1
    assert "WARNING" not in said
    assert ("ssh", "module", "a wrapper of another version of ansible-core") in ways(project)
    assert {way for way, _, _ in ways(project)} == {"ssh"}
