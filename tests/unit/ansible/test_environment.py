from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mcpops.ansible.environment import minimal_environment, require_vault_passwords, vault_settings
from mcpops.core.errors import UsageError


def test_nothing_of_ours_but_the_named_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", "/elsewhere")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    environment = minimal_environment({"ADDED": "1"})
    assert not {"AWS_SECRET_ACCESS_KEY", "ANSIBLE_CALLBACK_PLUGINS"} & environment.keys()
    assert (environment["SSH_AUTH_SOCK"], environment["ADDED"]) == ("/agent", "1")
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def test_the_vault_password_file_is_found_from_any_directory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert vault_settings(project) == {}
    (project / "ansible.cfg").write_text("[defaults]\nvault_password_file = keys/vault ; ours\n")
    assert vault_settings(project) == {"ANSIBLE_VAULT_PASSWORD_FILE": f"{project}/keys/vault"}
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", ".vault")
    assert vault_settings(project) == {"ANSIBLE_VAULT_PASSWORD_FILE": f"{project.parent}/.vault"}


def test_each_identity_keeps_its_label(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    (project / "ansible.cfg").write_text("[defaults]\nvault_identity_list = dev@~/dev, prod@keys/prod , plain\n")
    expected = f"dev@/home/ann/dev,prod@{project}/keys/prod,{project}/plain"
    assert vault_settings(project) == {"ANSIBLE_VAULT_IDENTITY_LIST": expected}


def test_one_password_file_of_several_is_enough(project: Path) -> None:
    (project / "ansible.cfg").write_text("[defaults]\nvault_identity_list = dev@none, prod@here\n")
    with pytest.raises(UsageError, match="none is not there") as caught:
        require_vault_passwords(project)
    assert caught.value.where == f"vault_identity_list in {project}/ansible.cfg"
    (project / "here").write_text("x")
    require_vault_passwords(project)


@pytest.mark.parametrize("source", ["prompt", "dev@prompt", "prompt_ask_vault_pass"])
def test_a_password_that_must_be_typed_is_an_error(project: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", source)
    assert vault_settings(project) == {"ANSIBLE_VAULT_IDENTITY_LIST": source}
    with pytest.raises(UsageError, match="would have to be typed") as caught:
        require_vault_passwords(project)
    assert caught.value.hint


def test_a_configuration_that_cannot_be_read_is_left_to_ansible(project: Path) -> None:
    (project / "ansible.cfg").write_text("vault_password_file = x\n")
    assert vault_settings(project) == {}
