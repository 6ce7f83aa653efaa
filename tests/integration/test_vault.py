"""What Ansible's vault keeps in a tree, asked of Ansible's own classes."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from mcpops.ansible import vault as vault_module
from mcpops.ansible.vault import open_vault
from mcpops.core.errors import UsageError
from tests.e2e.small import HOSTS, Vault


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    made = Vault(tmp_path / "password", "opensesame")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(made.password_file))
    return made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "snapshot"
    write(path / "inventory" / "hosts.yml", HOSTS)
    write(path / "playbooks" / "a.yml", "- name: a\n  hosts: all\n")
    return path


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def opened(tree: Path) -> set[str]:
    secrets = open_vault(tree, tree.parent, tree.parent / "inventories" / "x").secrets
    return {secret.reveal() for secret in secrets}


def test_every_place_of_a_project_is_looked_at(tree: Path, vault: Vault) -> None:
    write(tree / "inventory/group_vars/all/a.yml", vault.inline("a", "in-a-group") + "port: 5432\n")
    write(tree / "inventory/host_vars/m1.yml", vault.whole("whole: {a: of-a-host, b: [7777, true]}\n"))
    deep = textwrap.indent(vault.whole("in-a-list"), " " * 8)
    write(tree / "playbooks/group_vars/machines.yml", f"nested:\n  - deep:\n    - !vault |\n{deep}")
    write(tree / "playbooks/vars/more.json", json.dumps({"a": {"__ansible_vault": vault.whole("in-json")}}))
    of_play = textwrap.indent(vault.inline("b", "in-a-play"), " " * 4)
    write(tree / "playbooks/a.yml", f"- hosts: all\n  vars:\n{of_play}")
    write(tree / "roles/r/defaults/main.yml", "---\n" + vault.inline("c", "in-defaults"))
    write(tree / "roles/r/files/token", vault.whole("in-a-file\n"))
    write(tree / "roles/r/files/env", vault.whole("KEY=of-an-env-file\n"))
    found = opened(tree)
    assert found >= {"in-a-group", "of-a-host", "7777", "in-a-list", "in-json", "in-a-play", "in-defaults"}
    assert found >= {"in-a-file\n", "of-an-env-file"}
    assert not {"5432", "true", "whole"} & found


def test_a_program_that_makes_the_inventory_is_asked(tree: Path, vault: Vault) -> None:
    answer = {"all": {"hosts": ["d1"]}, "_meta": {"hostvars": {"d1": {"t": {"__ansible_vault": vault.whole("dyn-1")}}}}}
    hidden = json.dumps(json.dumps(answer).replace("$ANSIBLE_VAULT", "$ANSI@BLE_VAULT"))
    write(tree / "inventory/made", f"#!/bin/sh\nprintf %s {hidden} | tr -d @\n".replace("$", "\\$"), 0o755)
    assert opened(tree) == {"dyn-1"}


def test_what_cannot_be_decrypted_cannot_be_told_but_of_the_inventory_it_is_an_error(tree: Path, vault: Vault) -> None:
    foreign = Vault(tree.parent / "other", "another")
    write(tree / "roles/r/defaults/main.yml", foreign.inline("c", "of-somebody-else"))
    write(tree / "roles/r/README.md", "for example:\n\n    $ANSIBLE_VAULT;1.1;AES256\n    6162\n")
    assert opened(tree) == set()
    write(tree / "inventory/group_vars/all.yml", foreign.inline("db", "of-somebody-else"))
    with pytest.raises(UsageError, match="cannot be decrypted") as caught:
        opened(tree)
    assert caught.value.detail.startswith("m1: db: Decryption failed")
    assert caught.value.where == f"{tree.parent}/inventories/x/group_vars/all.yml:1"


def test_where_nothing_is_encrypted_ansible_is_not_started(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "ask", None)
    assert open_vault(tree, tree.parent, tree).secrets == ()
    write(tree / "inventory/group_vars/all.yml", "a: $ANSIBLE_VAULT;1.1;AES256\n")
    with pytest.raises(TypeError):  # the negative control
        open_vault(tree, tree.parent, tree)


def test_the_values_do_not_show_themselves(tree: Path, vault: Vault) -> None:
    write(tree / "inventory/group_vars/all.yml", vault.inline("a", "in-a-group"))
    assert "in-a-group" not in repr(open_vault(tree, tree.parent, tree))
