from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mcpops.ansible.environment import minimal_environment


def test_nothing_of_ours_but_the_named_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", "/elsewhere")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    environment = minimal_environment({"ADDED": "1"})
    assert not {"AWS_SECRET_ACCESS_KEY", "ANSIBLE_CALLBACK_PLUGINS"} & environment.keys()
    assert (environment["SSH_AUTH_SOCK"], environment["ADDED"]) == ("/agent", "1")
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_the_vault_password_file_is_found_from_any_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", ".vault")
    assert minimal_environment({})["ANSIBLE_VAULT_PASSWORD_FILE"] == str(tmp_path / ".vault")
