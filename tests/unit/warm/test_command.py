"""Which commands of Ansible's are known, and which are not: a table of both."""

import shlex

import pytest

from mcpops.warm import command
from mcpops.warm.errors import Unknown

SUCCESS = "BECOME-SUCCESS-abcdefgh"


def sh(text: str) -> str:
    return f"/bin/sh -c {shlex.quote(text)}"


def by_sudo(text: str, sudo: str = "sudo -H -S -n  -u root") -> str:
    return sh(f"{sudo} {sh(f'echo {SUCCESS} ; {text}')} && sleep 0")


ASKS = f'sudo -H -S  -p "[sudo via ansible, key={"k" * 32}] password:" -u root'


@pytest.mark.parametrize(
    ("text", "user", "path", "environment", "prompt"),
    [
        (sh("/usr/bin/python3 && sleep 0"), "login", "/usr/bin/python3", {}, ""),
        (sh("/opt/v/bin/python3.13 && sleep 0"), "login", "/opt/v/bin/python3.13", {}, ""),
        (sh("A=1 B='x y' /usr/bin/python3 && sleep 0"), "login", "/usr/bin/python3", {"A": "1", "B": "x y"}, ""),
        (sh("A='a b'\"'\"'c$HOME' /usr/bin/python3 && sleep 0"), "login", "/usr/bin/python3", {"A": "a b'c$HOME"}, ""),
        (by_sudo("/usr/bin/python3"), "sudo", "/usr/bin/python3", {}, ""),
        (by_sudo("PATH=/opt /usr/bin/python3"), "sudo", "/usr/bin/python3", {"PATH": "/opt"}, ""),
        (by_sudo("/usr/bin/python3", "sudo -n -u root"), "sudo", "/usr/bin/python3", {}, ""),
        (by_sudo("/usr/bin/python3", ASKS), "sudo", "/usr/bin/python3", {}, ASKS.split('"')[1]),
    ],
)
def test_a_command_that_only_starts_an_interpreter_is_known(text, user, path, environment, prompt):
    known = command.interpreter(text, SUCCESS)

    assert (known.user.partition(" ")[0], known.path, dict(known.environment)) == (user, path, environment)
    assert known.prompt == prompt
    assert "key=" not in known.user


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/bin/bash -c 'x'", "another shell"),
        (sh("/usr/bin/python3"), "does more"),
        (sh("/usr/bin/python3 /tmp/x.py && sleep 0"), "plain Python"),
        (sh("/usr/bin/perl && sleep 0"), "plain Python"),
        (sh("/usr/bin/env python3 && sleep 0"), "plain Python"),
        (sh("A=$HOME /usr/bin/python3 && sleep 0"), "taken apart"),
        (sh('A="x" /usr/bin/python3 && sleep 0'), "taken apart"),
        (sh("A=1  /usr/bin/python3 && sleep 0"), "taken apart"),
        (sh("A=`id` /usr/bin/python3 && sleep 0"), "taken apart"),
        ("/bin/sh -c '/usr/bin/python3 && sleep 0' extra", "taken apart"),
        ("/bin/sh -c /usr/bin/python3' && sleep 0'", "taken apart"),
        ("/bin/sh -c 'unfinished", "taken apart"),
        (sh("PYTHONPATH=/x /usr/bin/python3 && sleep 0"), "at its start"),
        (sh("LC_ALL=C /usr/bin/python3 && sleep 0"), "at its start"),
        (sh("LD_PRELOAD=/x /usr/bin/python3 && sleep 0"), "at its start"),
        (sh("TZ=UTC /usr/bin/python3 && sleep 0"), "at its start"),
        (by_sudo("/usr/bin/python3", "sudo -H -S -n  -u app"), "another become"),
        (by_sudo("/usr/bin/python3", "sudo -H -S -u root"), "another become"),
        (by_sudo("/usr/bin/python3", "sudo -H -S -n -E -u root"), "another become"),
        (by_sudo("/usr/bin/python3", "cd /x && sudo -H -S -n  -u root"), "another become"),
        (by_sudo("/usr/bin/python3", "su  root"), "another become"),
        (by_sudo("/usr/bin/python3").replace(SUCCESS, "BECOME-SUCCESS-other"), "another become"),
    ],
)
def test_anything_else_is_not(text, why):
    with pytest.raises(Unknown, match=why):
        command.interpreter(text, SUCCESS)


@pytest.mark.parametrize("sudo", ["", "sudo -H -S -n  -u root"])
def test_a_server_is_started_in_the_place_of_the_interpreter(sudo):
    started = command.interpreter(by_sudo("/usr/bin/python3") if sudo else sh("/usr/bin/python3 && sleep 0"), SUCCESS)

    words = shlex.split(shlex.split(started.start())[2])
    if sudo:
        assert words[:-3] == ["exec", *sudo.split()]
        words = shlex.split(words[-1])
    assert words[:5] == ["echo", f"{command.READY.decode()};", "exec", "/usr/bin/python3", "-c"]


TMP = "/root/.ansible/tmp"
NAME = "ansible-tmp-1795688006.16-2577-2274468"


@pytest.mark.parametrize(
    "text",
    [
        "echo ~",
        "echo ~ops",
        f'( umask 77 && mkdir -p "` echo {TMP} `"&& mkdir "` echo {TMP}/{NAME} `" '
        f'&& echo {NAME}="` echo {TMP}/{NAME} `" )',
        f"rm -f -r {TMP}/{NAME}/ > /dev/null 2>&1",
        f"chmod u+x {TMP}/{NAME}/ {TMP}/{NAME}/AnsiballZ_x.py",
    ],
)
def test_commands_about_the_temporary_directory_are_known(text):
    assert command.is_own(sh(f"{text} && sleep 0"))


@pytest.mark.parametrize(
    "text",
    [
        "echo ~ && id",
        "echo $HOME",
        "echo `id`",
        f"rm -f -r {TMP}/../x > /dev/null 2>&1",
        f"rm -f -r {TMP}/$(id) > /dev/null 2>&1",
        "chmod u+s /bin/sh",
        "chmod 777 /x",
        "id",
    ],
)
def test_others_are_not(text):
    assert not command.is_own(sh(f"{text} && sleep 0"))
    assert not command.is_own(sh(text))
