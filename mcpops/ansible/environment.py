"""The environment of everything of Ansible's that mcpops starts: a few of our own variables, and no more."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from mcpops.core.errors import UsageError

# The rest (database URLs, tokens) is nobody's business there: ansible-runner keeps the whole environment of a
# play in artifacts/*/command, and any task can print it.
_KEPT = ("HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "TZ", "XDG_RUNTIME_DIR", "TMPDIR")
# Where Ansible finds the passwords of its vault, and how the same is called in [defaults] of ansible.cfg: paths and
# no secrets. They are made absolute, because a play runs in another directory and with a copy of ansible.cfg.
_VAULT = {
    "ANSIBLE_VAULT_PASSWORD_FILE": "vault_password_file",
    "ANSIBLE_VAULT_IDENTITY_LIST": "vault_identity_list",
}

# The way out when none of the passwords that Ansible has fits.
NO_PASSWORD = (
    f"{next(iter(_VAULT))}, or vault_password_file in ansible.cfg, names a file with the password that encrypted it"
)


def minimal_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return a whole environment: what a play needs of ours, UTF-8, this Python's programs first, and `more`."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    programs = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    return environment | {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"} | dict(more)


def vault_settings(project: Path) -> dict[str, str]:
    """Return the environment variables that say where vault passwords are: ours, else what ansible.cfg says.

    Relative paths are the caller's in an environment variable, the project's in its ansible.cfg.
    """
    return {name: ",".join(sources) for name, sources, _ in _vault_sources(project)}


def require_vault_passwords(project: Path) -> None:
    """Raise UsageError when a vault password would have to be typed, or when the files for it are not there."""
    for _, sources, where in _vault_sources(project):
        asked = [source for source in sources if asks(source)]
        if asked:
            raise UsageError(
                f"the vault password {asked[0]!r} would have to be typed",
                detail="a run has no terminal: it goes on when nobody is there",
                hint="name a file, or a program that prints the password",
                where=where,
            )
        paths = [source.rpartition("@")[2] for source in sources]
        if not any(Path(path).exists() for path in paths):  # as Ansible has it: one is enough
            raise UsageError(
                f"the vault password file {paths[0]} is not there",
                hint=f"write the file, or change {where}",
                where=where,
            )


def asks(source: str) -> bool:
    """Whether a source of a vault password, `[label@]path`, means: ask at the terminal."""
    return source.rpartition("@")[2] in ("prompt", "prompt_ask_vault_pass")


def _vault_sources(project: Path) -> Iterator[tuple[str, list[str], str]]:
    """Yield each setting that is there: its variable, its sources with absolute paths, and who says so."""
    reader = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";",), strict=False)
    with suppress(configparser.Error, UnicodeDecodeError):  # Ansible says it better, and with the line
        reader.read(project / "ansible.cfg", encoding="utf-8")
    for name, option in _VAULT.items():
        text, base, where = os.environ.get(name, ""), Path.cwd(), name
        if not text:
            text = reader.get("defaults", option, fallback="").strip().strip("'\"")
            base, where = project.resolve(), f"{option} in {project / 'ansible.cfg'}"
        sources = [_absolute(source.strip(), base) for source in text.split(",") if source.strip()]
        if sources:
            yield name, sources, where


def _absolute(source: str, base: Path) -> str:
    if asks(source):
        return source
    label, at, path = source.rpartition("@")
    return label + at + str(base / Path(os.path.expandvars(path)).expanduser())
