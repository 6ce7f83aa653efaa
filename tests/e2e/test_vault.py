"""Values from Ansible's vault: usable in runs, and in no record, message or file that a run leaves."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.small import Small, Vault
from tests.e2e.stand import Ended

INLINE = "hunter/22+x"
WHOLE = "tok en/77&y"
KEY = "-----BEGIN THING-----\nAAAAB3NzaC1yc2EAAAADAQAB\nc2hvcnQ6bGluZQ\n-----END THING-----\n"
IN_ROLE = "role-secret-55"
SECRETS = (INLINE, WHOLE, IN_ROLE, "AAAAB3NzaC1yc2EAAAADAQAB", "c2hvcnQ6bGluZQ")

# Each way in which a value of a play gets into a record: a name, a message, a diff, an item, an error.
LEAK = """\
- name: leak
  hosts: machines
  gather_facts: false
  vars:
    step: {on_interrupt: rerun}
    told: >-
      {{ db_password }} {{ db_password | b64encode }} {{ db_password | urlencode }}
      {{ api_token }} {{ api_token | b64encode }} {{ api_token | urlencode }} {{ role_secret }} {{ ssh_key }}
  roles: [quiet]
  tasks:
    - name: "say {{ db_password }}"
      ansible.builtin.debug: {msg: "{{ told }}"}
    - name: write
      ansible.builtin.copy:
        content: "{{ db_password }}\\n{{ told }}"
        dest: "{{ mcpops_project }}/{{ inventory_hostname }}.out"
        mode: "0600"
      diff: true
    - name: try
      ansible.builtin.command: {argv: [sh, -c, 'echo "$0" >&2; exit 1', "{{ item }}"]}
      loop: ["{{ told }}", "{{ api_token }}"]
      ignore_errors: true
    - name: fail
      ansible.builtin.command: {argv: [sh, -c, 'echo "$0"; echo "$0" >&2; exit 1', "{{ told }}"]}
"""


def forms(secret: str) -> set[str]:
    """The spellings that the play makes."""
    return {secret, base64.b64encode(secret.encode()).decode(), quote(secret)}


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault(tmp_path_factory.mktemp("vault") / "password", "opensesame")


@pytest.fixture(scope="module")
def encrypted(vault: Vault) -> dict[str, str]:
    """Files of a project, by name."""
    return {
        "inventories/small/group_vars/all/inline.yml": vault.inline("db_password", INLINE),
        "inventories/small/group_vars/all/whole.yml": vault.whole(
            f"api_token: '{WHOLE}'\nport: 8443\nssh_key: |\n  " + KEY.replace("\n", "\n  ").rstrip() + "\n"
        ),
        "roles/quiet/defaults/main.yml": vault.inline("role_secret", IN_ROLE),
    }


@pytest.fixture
def small(tmp_path: Path, vault: Vault, encrypted: dict[str, str]) -> Small:
    made = Small(tmp_path)
    for name, text in encrypted.items():
        made.write(name, text)
    made.role("quiet", main="[]\n")
    made.environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(vault.password_file)
    made.write("playbooks/leak.yml", LEAK)
    return made


def kept(small: Small) -> list[Path]:
    return [path for path in (small.home / ".mcpops").rglob("*") if path.is_file() and "snapshot" not in path.parts]


def shown(small: Small, ended: Ended) -> str:
    """Everything that a person can read of a run, and every file that it keeps."""
    told = [ended.said, repr(ended.out), small.text("runs", "list"), small.text("runs", "list", "--json")]
    told += [small.text("runs", *argv, ended.out["id"]) for argv in (("show", "-v"), ("show", "--json"), ("export",))]
    for path in (small.home / ".mcpops").rglob("*"):
        if path.is_file() and "snapshot" not in path.parts:
            told.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(told)


def test_no_vaulted_value_is_in_a_record_or_a_message(small):
    ended = small.run("run", "leak")

    assert ended.code == 1, ended.error
    assert (small.home / "m1.out").read_text().startswith(f"{INLINE}\n"), "the plays did have the values"
    told = shown(small, ended)
    assert "***" in told
    assert [form for secret in SECRETS for form in forms(secret) if form in told] == []


def test_without_a_vault_the_same_values_do_show(small, encrypted):
    """The negative control: what the test above looks for is there when nobody calls it secret."""
    for name in encrypted:
        (small.home / name).unlink()
    plain = {"db_password": INLINE, "api_token": WHOLE, "ssh_key": KEY, "role_secret": IN_ROLE}
    small.write("inventories/small/group_vars/all/plain.yml", json.dumps(plain))

    told = shown(small, small.run("run", "leak"))

    assert [form for secret in (INLINE, WHOLE) for form in forms(secret) if form not in told] == []
    assert [secret for secret in SECRETS if secret not in told] == []


@pytest.mark.parametrize("which", ["group_vars/all/inline.yml", "group_vars/all/whole.yml"])
@pytest.mark.parametrize(
    ("password", "said"), [("sesame", "Decryption failed"), ("", "is not there"), (None, "no vault secrets")]
)
def test_a_password_that_does_not_fit_starts_nothing(small, encrypted, tmp_path, which, password, said):
    for name in encrypted:
        if not name.endswith(which):
            (small.home / name).unlink()
    if password is None:
        small.environment.clear()
    else:
        small.environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(tmp_path / "other")
    if password:
        (tmp_path / "other").write_text(password)

    ended = small.run("run", "leak")

    assert ended.code == 2, ended.error
    error = ended.out["error"]
    assert said in error["message"] + error["detail"]
    assert "ANSIBLE_VAULT_PASSWORD_FILE" in error["hint"]
    wanted = "ANSIBLE_VAULT_PASSWORD_FILE" if password == "" else str(small.home / "inventories/small" / which)
    assert error["where"].startswith(wanted)
    assert not (small.home / "m1.out").exists()
    assert small.run("runs", "list").out["runs"] == []
    assert list((small.home / ".mcpops/small/runs").glob("*")) == []


def test_a_password_for_something_else_is_not_asked_for(small, encrypted):
    """A role may keep a secret of another environment: Ansible needs it only where the variable is used."""
    for name in encrypted:
        if not name.startswith("roles/"):
            (small.home / name).unlink()
    small.environment.clear()
    small.write("playbooks/quiet.yml", "- name: quiet\n  hosts: machines\n  tasks:\n    - ansible.builtin.ping:\n")

    assert small.run("run", "quiet").code == 0


def test_the_password_file_of_ansible_cfg_serves_a_run_that_has_a_copy_of_it(small, vault):
    small.environment.clear()
    small.write("ansible.cfg", "[defaults]\nvault_password_file = secret/password ; relative to this file\n")
    small.write("secret/password", vault.password_file.read_text())

    ended = small.run("run", "leak")

    assert ended.code == 1, ended.error
    assert (small.home / "m1.out").read_text().startswith(f"{INLINE}\n")
    assert INLINE not in shown(small, ended)


def test_a_secret_is_not_handed_on_to_later_steps_as_a_mask(small):
    tasks = '    - ansible.builtin.set_stats: {data: {handed: "x {{ db_password }}"}}\n'
    head = "  hosts: machines\n  gather_facts: false\n  vars: {step: {on_interrupt: rerun}}\n  tasks:\n"
    later = '    - ansible.builtin.fail: {msg: "{{ handed }}"}\n'
    small.write("playbooks/hand.yml", f"- name: one\n{head}{tasks}- name: two\n{head}{later}")

    ended = small.run("run", "hand")

    assert ended.code == 3, ended.error
    assert "hands on a secret by set_stats" in ended.out["reason"]
    assert ended.out["steps"][1]["state"] == "pending"
    assert INLINE not in shown(small, ended)
