"""Real inventories through Ansible's own reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcpops.ansible import ask
from mcpops.ansible.inventory import load_inventory, targets, tree_digest
from mcpops.cli import ahead
from mcpops.cli.common import Session
from mcpops.cli.project import find_environment
from mcpops.core import proc
from mcpops.core.errors import UsageError
from tests.e2e.small import Vault

CHECKOUT = Path(__file__).parents[2]
HOSTS = """\
fronts:
  hosts:
    h1: {ansible_host: 10.99.0.1, site: west}
    h2: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  vars:
    ansible_ssh_common_args: "-F {{ inventory_dir }}/ssh_config"
none: {}
"""
VARIABLES = """\
hostside_path: "{{ service_state_dir }}/hostside.pyz"
service_state_dir: "{{ mcpops_project | default(inventory_dir ~ '/../..') }}/state/{{ inventory_hostname }}"
closed: "{{ lookup('ansible.builtin.pipe', 'touch ' ~ inventory_dir ~ '/looked-up') }}"
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    path = tmp_path / "inventories" / "lab"
    (path / "group_vars").mkdir(parents=True)
    (path / "hosts.yml").write_text(HOSTS)
    (path / "group_vars" / "fronts.yml").write_text(VARIABLES)
    (path / "README.md").write_text("not an inventory")
    return path


def test_templates_are_resolved_as_a_play_would(environment: Path, tmp_path: Path) -> None:
    inventory = load_inventory(environment, tmp_path, ("site",))
    first, second = targets(inventory)
    assert inventory.hosts == ("h1", "h2")
    assert inventory.variables["h1"]["site"] == "west"
    assert (first.address, first.ssh_config_file) == ("10.99.0.1", f"{environment}/ssh_config")
    assert first.hostside_path == f"{tmp_path}/state/h1/hostside.pyz"
    assert (second.connection, second.python) == ("local", sys.executable)


def test_variables_nobody_asked_for_are_not_resolved(environment: Path, tmp_path: Path) -> None:
    load_inventory(environment, tmp_path)
    assert not (environment / "looked-up").exists()
    load_inventory(environment, tmp_path, ("closed",))
    assert (environment / "looked-up").exists()  # the negative control


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("fronts: {hosts: {h1: {}}\n", "hosts.yml"),
        ("all: {}\n", "no hosts"),
        ("fronts: {hosts: {h1: {ansible_host: '{{ nowhere }}'}}}\n", "nowhere"),
    ],
)
def test_an_inventory_that_cannot_be_read_is_an_error_that_says_where(
    environment: Path, tmp_path: Path, text: str, part: str
) -> None:
    (environment / "hosts.yml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_inventory(environment, tmp_path)
    assert part in caught.value.message + caught.value.detail


def test_one_bad_file_of_two_is_an_error_and_not_fewer_hosts(environment: Path, tmp_path: Path) -> None:
    (environment / "more.yml").write_text("backs: {hosts: {b1: {}}\n")
    with pytest.raises(UsageError):
        load_inventory(environment, tmp_path)


WHOLE = "group_vars/all.yml"


@pytest.mark.parametrize("which", [WHOLE, "group_vars/none.yml", "hosts.yml"])
def test_an_encrypted_file_is_read_with_the_password_and_named_without(
    environment: Path, tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault(tmp_path / "password", "opensesame")
    path = environment / which
    path.write_text(vault.whole(path.read_text() if path.exists() else "site: vaulted\nother: 1\n"))
    if which == "group_vars/none.yml":  # a group without hosts: Ansible does not read it
        monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
        assert load_inventory(environment, tmp_path).hosts == ("h1", "h2")
        return
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(vault.password_file))
    inventory = load_inventory(environment, tmp_path, ("site",))
    assert inventory.variables["h2"].get("site") == ("vaulted" if which == WHOLE else None)
    vault.password_file.write_text("another\n")
    with pytest.raises(UsageError, match="cannot be read") as caught:
        load_inventory(environment, tmp_path)
    assert "Decryption failed" in caught.value.detail
    assert "ANSIBLE_VAULT_PASSWORD_FILE" in caught.value.hint
    assert caught.value.where == str(path)


def test_a_missing_password_file_is_no_error_while_nothing_is_encrypted(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback may have to read the inventory, and needs no password for that."""
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(tmp_path / "none"))
    assert load_inventory(environment, tmp_path).hosts == ("h1", "h2")


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not there"):
        load_inventory(tmp_path / "none", tmp_path)


def test_the_digest_follows_the_files(environment: Path) -> None:
    before = tree_digest(environment)
    assert tree_digest(environment) == before
    (environment / "group_vars" / "fronts.yml").write_text(VARIABLES + "more: 1\n")
    assert tree_digest(environment) != before


def test_plain_ansible_in_the_checkout_uses_our_configuration() -> None:
    program = Path(sys.executable).with_name("ansible-config")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [program, "dump", "--only-changed"],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for line in (
        "ANSIBLE_PIPELINING(",
        "DEFAULT_FORKS(",
        "DEFAULT_GATHERING(",
        "INVENTORY_ANY_UNPARSED_IS_FAILED(",
        f"['{CHECKOUT}/roles']",
        f"['{CHECKOUT}/plugins/modules']",
    ):
        assert line in done.stdout


def waits(pid: int) -> bool:
    """Whether a process waits for its question: in read(2), on standard input."""
    end_s = time.monotonic() + 20
    while time.monotonic() < end_s:
        if Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x0 "):
            return True
        time.sleep(0.02)
    return False


def test_a_command_asks_the_process_that_it_started_ahead(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(ask._PREPARED)
    ahead.begin(Session(project=tmp_path, environment="lab"))
    (started,) = (ask._PREPARED[key] for key in ask._PREPARED.keys() - before.keys())
    assert waits(started.pid)
    (environment / "hosts.yml").write_text("fronts: {hosts: {late: {}}}\n")

    found = find_environment(Session(project=tmp_path, environment="lab"))

    assert load_inventory(found.inventory, found.project).hosts == ("late",), "what changed meanwhile is seen"
    assert started.returncode == 0
    assert before == ask._PREPARED
    assert load_inventory(found.inventory, found.project).hosts == ("late",), "and it is asked once"


def test_a_process_of_other_settings_is_not_asked(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(ask._PREPARED)
    ask.prepare("inventory_dump", tmp_path, tmp_path)
    (key,) = ask._PREPARED.keys() - before.keys()
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")

    assert load_inventory(environment, tmp_path).hosts == ("h1", "h2")

    started = ask._PREPARED.pop(key)
    assert started.poll() is None, "it waits for a question still"
    started.communicate()


def test_one_that_nobody_asks_ends_with_who_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from mcpops.ansible import ask; at = pathlib.Path(sys.argv[1]);"
        "ask.prepare('inventory_dump', at, at); print(*(process.pid for process in ask._PREPARED.values()))"
    )
    argv = [sys.executable, "-c", program, str(tmp_path)]
    pid = int(subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout)

    end_s = time.monotonic() + 20
    while proc.alive(pid) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert not proc.alive(pid)


def test_an_inventory_that_never_ends_is_an_error(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = environment / "endless.sh"
    script.write_text("#!/bin/sh\nexec sleep 30\n")
    script.chmod(0o755)
    monkeypatch.setattr(ask, "_DEADLINE_S", 3.0)
    began_s = time.monotonic()

    with pytest.raises(UsageError, match="took more than 3 s"):
        load_inventory(environment, tmp_path)

    assert time.monotonic() - began_s < 15


def test_ctrl_c_ends_what_was_asked(environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def interrupted(process: subprocess.Popen[str], *_: object) -> None:
        asked.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)

    with pytest.raises(KeyboardInterrupt):
        load_inventory(environment, tmp_path)

    assert asked[0].returncode == -signal.SIGKILL
