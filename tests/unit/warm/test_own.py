"""Ansible's own commands, done without a shell: as the shell does them, or left to it."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from ansible.plugins.loader import shell_loader

from mcpops.warm import command as commands
from mcpops.warm.host import own

LAST = " && sleep 0"


@pytest.fixture(scope="module")
def shell():
    made = shell_loader.get("sh")
    made.set_options()
    return made


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def said_by_sh(command: str) -> tuple[int, bytes]:
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, timeout=10, check=False)
    return done.returncode, done.stdout


def below(path: Path) -> dict[str, int]:
    return {str(one.relative_to(path)): stat.S_IMODE(one.lstat().st_mode) for one in path.rglob("*")}


def test_the_home_of_nobody_is_left_to_the_shell():
    assert own.run("echo ~nobody-of-this-name && sleep 0") is None


@pytest.mark.parametrize("path", ["~", "~root"])
def test_a_home_is_as_the_shell_has_it(shell, path):
    command = shell.expand_user(path) + LAST

    assert commands.is_own(commands._SH + f"'{command}'")
    assert (0, own.run(command)) == said_by_sh(command)


@pytest.mark.parametrize("parent", ["~/.ansible/tmp", "{home}/there", "{home}/a/b/../c"])
def test_a_directory_is_made_as_the_shell_makes_it(shell, home, parent):
    parent = parent.format(home=home)
    one, two = (shell.mkdtemp(f"ansible-tmp-1.1-{number}-1", tmpdir=parent) + LAST for number in (1, 2))

    ours = own.run(one)
    seen = below(home)
    for path in sorted(home.rglob("*"), reverse=True):
        path.rmdir()
    code, theirs = said_by_sh(two)

    assert (code, theirs.replace(b"-2-1", b"-1-1")) == (0, ours)
    assert {name.replace("-2-1", "-1-1"): mode for name, mode in below(home).items()} == seen
    assert any("ansible-tmp" in name for name in seen)


def test_the_mask_of_new_files_is_what_it_was(shell, home):
    before = os.umask(0o022)
    try:
        own.run(shell.mkdtemp("ansible-tmp-1.1-1-1", tmpdir="~/tmp") + LAST)
        own.run(shell.mkdtemp("ansible-tmp-1.1-1-1", tmpdir="~/tmp") + LAST)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_one_that_is_there_is_left_to_the_shell(shell, home):
    command = shell.mkdtemp("ansible-tmp-1.1-1-1", tmpdir="~/tmp") + LAST
    assert own.run(command) is not None

    assert own.run(command) is None


def test_a_place_below_a_file_is_left_to_the_shell(shell, home):
    (home / "file").touch()

    assert own.run(shell.mkdtemp("ansible-tmp-1.1-1-1", tmpdir="~/file/tmp") + LAST) is None


def test_one_is_removed_with_what_is_in_it(shell, home):
    path = home / "ansible-tmp-1.1-1-1"
    (path / "deep").mkdir(parents=True)
    (path / "deep/file").touch()

    assert own.run(shell.remove(f"{path}/", recurse=True) + LAST) == b""

    assert not path.exists()
    assert own.run(shell.remove(f"{path}/", recurse=True) + LAST) == b"", "rm -f does not mind"


def test_a_link_to_a_directory_is_left_to_the_shell(shell, home):
    (home / "kept").mkdir()
    link = home / "ansible-tmp-1.1-1-1"
    link.symlink_to(home / "kept")

    assert own.run(shell.remove(str(link), recurse=True) + LAST) is None
    assert (home / "kept").is_dir()


@pytest.mark.parametrize(
    "text",
    [
        "echo ~ && sleep 0; reboot",
        "echo ~",
        "echo $HOME && sleep 0",
        "rm -f -r ~/ansible-tmp-1.1-1-1 > /dev/null 2>&1 && sleep 0",
        "chmod u+x /tmp/x && sleep 0",
        '( umask 77 && mkdir -p "` echo $HOME/tmp `"&& mkdir "` echo $HOME/tmp/a `" && echo a="` echo $HOME/tmp/a `" )'
        " && sleep 0",
        '( umask 77 && mkdir -p "` echo ~none-such/tmp `"&& mkdir "` echo ~none-such/tmp/a `"'
        ' && echo a="` echo ~none-such/tmp/a `" ) && sleep 0',
    ],
)
def test_anything_else_is_left_to_the_shell(text, home):
    assert own.run(text) is None
    assert below(home) == {}


@pytest.mark.parametrize("name", ["kept", "ansible-tmp-x", "ansible-tmp-1.1-1-1/kept"])
def test_only_what_has_the_name_of_such_a_directory_is_removed(home, name):
    (home / name).mkdir(parents=True)

    assert own.run(f"rm -f -r {home / name} > /dev/null 2>&1 && sleep 0") is None

    assert (home / name).is_dir()


def test_one_that_may_not_be_seen_is_left_to_the_shell(shell, home, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "lstat", forbidden)

    assert own.run(shell.remove(f"{home}/ansible-tmp-1.1-1-1/", recurse=True) + LAST) is None


@pytest.mark.parametrize("odd", ["", "/", "/home/me/", "me"])
def test_a_home_about_which_shells_differ_is_left_to_the_shell(shell, odd, monkeypatch):
    monkeypatch.setenv("HOME", odd)

    assert own.run("echo ~ && sleep 0") is None
    assert own.run(shell.mkdtemp("ansible-tmp-1.1-1-1", tmpdir="~/tmp") + LAST) is None


def test_without_a_home_all_is_left_to_the_shell(monkeypatch):
    monkeypatch.delenv("HOME")

    assert own.run("echo ~ && sleep 0") is None
