"""What is decided before anything connects: the command line of ssh, and what its complaints mean."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mcpops.core.person import account
from mcpops.model.target import Target
from mcpops.remote.targets import load_targets, save_targets
from mcpops.remote.transport import explain, goes_straight, relay_command, ssh_argv

TARGET = Target(
    name="f1",
    address="front1.example",
    connection="ssh",
    python="/usr/bin/python3",
    hostside_path="/opt/my tools/hostside.pyz",
    state_dir="/var/lib/mcpops/time",
    port=2222,
    user="deployer",
    private_key_file="/keys/id",
    known_hosts_file="/keys/known_hosts",
)


def test_strict_host_keys_and_nothing_that_asks() -> None:
    argv = ssh_argv(TARGET, 3.0)
    options = {argv[n + 1] for n, word in enumerate(argv) if word == "-o"}
    assert {"StrictHostKeyChecking=yes", "BatchMode=yes", "ConnectTimeout=3", "ControlMaster=no"} <= options
    assert {"UserKnownHostsFile=/keys/known_hosts", "GlobalKnownHostsFile=none", "IdentitiesOnly=yes"} <= options
    assert not any("StrictHostKeyChecking=no" in word or "accept-new" in word for word in argv)


def test_what_runs_there_is_quoted_for_its_shell() -> None:
    argv = ssh_argv(TARGET, 3.0)
    assert argv[-2] == "front1.example"
    assert shlex.split(argv[-1]) == [
        "/usr/bin/python3", "-I", "/opt/my tools/hostside.pyz", "--state", "/var/lib/mcpops/time", "serve",
    ]  # fmt: skip
    assert argv[argv.index("-p") + 1] == "2222"
    assert argv[argv.index("-l") + 1] == "deployer"


def test_the_user_is_said_unless_the_kernel_knows_this_process_by_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """ssh asks the kernel too; a variable that lies must not log in as somebody else."""
    monkeypatch.setenv("LOGNAME", TARGET.user)
    argv = ssh_argv(TARGET, 3.0)
    assert argv[argv.index("-l") + 1] == TARGET.user
    assert "-l" not in ssh_argv(replace(TARGET, user=account()), 3.0)


def test_an_address_is_never_an_option() -> None:
    argv = ssh_argv(replace(TARGET, address="-oProxyCommand=evil"), 3.0)
    assert argv[argv.index("--") + 1] == "-oProxyCommand=evil"


def test_a_configuration_file_decides_what_is_the_default_anyway(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host front1.example\n  Port 2200\n")
    argv = ssh_argv(replace(TARGET, port=22, ssh_config_file=str(config)), 3.0)
    assert argv[argv.index("-F") + 1] == str(config)
    assert "-p" not in argv
    assert not any(word.startswith("KexAlgorithms") for word in argv)


@pytest.mark.parametrize(
    ("text", "straight"),
    [
        ("", True),
        ("Host *\n  User me\n# ProxyJump in a comment\n", True),
        ("Include /etc/ssh/ssh_config.d/*.conf\nHost *\n", True),
        ("Host f\n  ProxyJump gate\n", False),
        ("Host f\n\tproxycommand=nc %h %p\n", False),
        ("Include ~/.ssh/work\n", False),
        ("Match host f exec true\n", False),
        ("Host f\n  BindAddress 10.0.0.1\n", False),
    ],
)
def test_whether_a_configuration_knows_another_way(text: str, straight: bool) -> None:
    assert goes_straight([text]) is straight
    assert goes_straight(["Host *\n", text]) is straight


def test_a_jump_host_is_left_to_ssh(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  ProxyJump gate\n")
    assert not any("relay.py" in word for word in ssh_argv(replace(TARGET, ssh_config_file=str(config)), 3.0))
    config.write_text("Host *\n")
    assert any("relay.py" in word for word in ssh_argv(replace(TARGET, ssh_config_file=str(config)), 3.0))


def test_the_relay_survives_percent_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/100% mine/python")
    assert relay_command(3.0).startswith("'/opt/100%% mine/python' -I -S ")
    assert relay_command(3.0).endswith("relay.py %h %p 3")


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Host key verification failed.", "known_hosts"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "ask before"),
        ("root@x: Permission denied (publickey).", "private key"),
        ("ssh: connect to host x port 22: Connection refused", "sshd is not"),
        ("ssh: connect to host x port 22: No route to host", "down or cut off"),
        ("ssh: connect to host x port 22: Connection timed out", "down or cut off"),
        ("ssh: Could not resolve hostname x: Name or service not known", "ansible_host"),
        ("python3: can't open file '/x/hostside.pyz'", "role `hostside`"),
        ("something new", "mcpops status"),
    ],
)
def test_a_complaint_of_ssh_gets_a_way_out(said: str, hint: str) -> None:
    detail, found = explain(said)
    assert detail == said
    assert hint in found


def test_a_targets_file_that_is_the_same_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    save_targets(path, [TARGET], "sha256:1")
    before = path.stat().st_ino
    save_targets(path, [TARGET], "sha256:1")
    assert path.stat().st_ino == before
    assert load_targets(path, "sha256:1") == [TARGET]
    save_targets(path, [TARGET], "sha256:2")
    assert load_targets(path, "sha256:1") is None
