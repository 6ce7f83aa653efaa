from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mcpops.ansible.inventory import Inventory, targets
from mcpops.core.errors import UsageError

NEEDED = {"hostside_path": "/opt/hostside.pyz", "service_state_dir": "/var/lib/time"}


def inventory(**variables: Any) -> Inventory:
    return Inventory(Path("inventories/x"), {"all": ("h1",), "fronts": ("h1",), "none": ()}, {"h1": NEEDED | variables})


def test_every_variable_reaches_the_target() -> None:
    (target,) = targets(
        inventory(
            ansible_host="10.0.0.1",
            ansible_port="2222",
            ansible_user="ops",
            ansible_python_interpreter="/usr/bin/python3.11",
            ansible_ssh_private_key_file="/k",
            ansible_ssh_common_args="-F /etc/ours -o UserKnownHostsFile=/kh -o 'StrictHostKeyChecking yes' -C",
        )
    )
    assert (target.name, target.address, target.port, target.user) == ("h1", "10.0.0.1", 2222, "ops")
    assert (target.connection, target.python) == ("ssh", "/usr/bin/python3.11")
    assert (target.private_key_file, target.known_hosts_file, target.ssh_config_file) == ("/k", "/kh", "/etc/ours")
    assert (target.hostside_path, target.state_dir) == ("/opt/hostside.pyz", "/var/lib/time")


@pytest.mark.parametrize(
    ("arguments", "known_hosts"),
    [
        ("-oUserKnownHostsFile=/a", "/a"),
        ("-o userknownhostsfile=/a -o UserKnownHostsFile=/b", "/a"),  # the first one counts, as in ssh
        ("-o 'UserKnownHostsFile /a'", "/a"),
        ("", None),
    ],
)
def test_ssh_arguments_are_read_as_ssh_reads_them(arguments: str, known_hosts: str | None) -> None:
    assert targets(inventory(ansible_ssh_common_args=arguments))[0].known_hosts_file == known_hosts


def test_without_an_interpreter_it_is_the_systems_or_this_one() -> None:
    assert targets(inventory())[0].python == "/usr/bin/python3"
    assert targets(inventory(ansible_python_interpreter="auto_silent"))[0].python == "/usr/bin/python3"
    assert targets(inventory(ansible_connection="local"))[0].python == sys.executable
    assert targets(inventory(ansible_connection="ansible.builtin.local"))[0].connection == "local"


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"hostside_path": None}, "h1: no hostside_path"),
        ({"hostside_path": "", "service_state_dir": ""}, "h1: no hostside_path, service_state_dir"),
        ({"ansible_port": "ssh"}, "ansible_port 'ssh'"),
        ({"ansible_port": 70000}, "ansible_port '70000'"),
        ({"ansible_connection": "community.docker.docker"}, "expected ssh or local"),
        ({"ansible_ssh_common_args": "-J jump"}, "proxyjump"),
        ({"ansible_ssh_common_args": "-o ProxyCommand='nc %h %p'"}, "proxycommand"),
    ],
)
def test_what_cannot_be_reached_directly_is_said_per_host(variables: dict[str, Any], part: str) -> None:
    with pytest.raises(UsageError, match="cannot be reached directly") as caught:
        targets(inventory(**variables))
    assert part in caught.value.detail


@pytest.mark.parametrize(("group", "part"), [("none", "has no hosts"), ("missing", "is not there")])
def test_a_group_without_hosts_is_an_error_that_names_group_and_file(group: str, part: str) -> None:
    with pytest.raises(UsageError, match=part) as caught:
        targets(inventory(), group)
    assert repr(group) in caught.value.message
    assert caught.value.where == "inventories/x"


@pytest.mark.parametrize(
    ("connections", "local"),
    [(["local"], True), (["local", "ansible.builtin.local"], True), (["local", "ssh"], False), ([None], False)],
)
def test_an_inventory_is_local_when_every_host_is_this_machine(connections: list[str | None], local: bool) -> None:
    variables = {str(n): {"ansible_connection": name} if name else {} for n, name in enumerate(connections)}
    assert Inventory(Path("x"), {}, variables).local is local
