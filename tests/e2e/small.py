"""A small project of local hosts without fronts: for what a run does to files, records and messages."""

from __future__ import annotations

import os
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path

from ansible.parsing.vault import VaultLib, VaultSecret

from tests.e2e.stand import COMMAND_S, MCPOPS, Command, Ended

LOCAL = "{ansible_connection: local, ansible_python_interpreter: '{{ ansible_playbook_python }}'}"
HOSTS = f"machines: {{hosts: {{m1: {LOCAL}, m2: {LOCAL}}}}}\n"


class Small:
    """A project directory with one environment, `small`; `environment` is added to that of its commands."""

    def __init__(self, home: Path, hosts: str = HOSTS) -> None:
        self.home = home
        self.environment: dict[str, str] = {}
        self.write("inventories/small/hosts.yml", hosts)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def role(self, name: str, **files: str) -> None:
        """Write a role: its task files by name."""
        for file, text in files.items():
            self.write(f"roles/{name}/tasks/{file}.yml", text)

    def start(self, *argv: str) -> Command:
        """Start a command."""
        return Command([str(MCPOPS), *argv, "--json"], self.home, self._environment())

    def run(self, *argv: str) -> Ended:
        """Run a command to its end."""
        return self.start(*argv).end()

    def text(self, *argv: str) -> str:
        """Run a command that prints for people; return both of its outputs."""
        done = subprocess.run(
            [str(MCPOPS), *argv], cwd=self.home, env=os.environ | self._environment(), text=True,
            capture_output=True, timeout=COMMAND_S, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def _environment(self) -> Mapping[str, str]:
        return {"ANSIBLE_VAULT_PASSWORD_FILE": "", **self.environment}


class Vault:
    """A password file, and what `ansible-vault` makes with it."""

    def __init__(self, password_file: Path, password: str) -> None:
        password_file.write_text(f"{password}\n")
        self.password_file = password_file
        self._vault = VaultLib([("default", VaultSecret(password.encode()))])

    def whole(self, text: str) -> str:
        """Return the text of an encrypted file."""
        return str(self._vault.encrypt(text).decode())

    def inline(self, name: str, value: str) -> str:
        """Return the YAML of one variable with an encrypted value."""
        return f"{name}: !vault |\n" + textwrap.indent(self.whole(value), "  ")
