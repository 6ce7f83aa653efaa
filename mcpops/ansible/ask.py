"""Ask Ansible's own classes: one question and one answer, both JSON, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcpops.ansible.environment import minimal_environment, vault_settings
from mcpops.core.errors import UsageError

_DEADLINE_S = 60.0  # reading takes 0.6 s; a slow dynamic inventory gets its time
# The project's directory. In a run the inventory is a copy, so `inventory_dir` does not lead there; an inventory
# that also serves plain ansible-playbook says `{{ mcpops_project | default(inventory_dir ~ '/../..') }}`.
PROJECT_VARIABLE = "mcpops_project"
_Key = tuple[str, str, frozenset[tuple[str, str]]]
_PREPARED: dict[_Key, subprocess.Popen[str]] = {}


def ask(module: str, sources: Path, tree: Path, project: Path, **more: object) -> dict[str, Any]:
    """Return what `python -m mcpops.ansible.MODULE` answers about the inventory `sources`.

    `tree` has ansible.cfg and playbooks/: the project itself, or its snapshot. The answer comes over a pipe, so it
    may hold secrets. Raises UsageError when Ansible cannot be asked, or takes a minute.
    """
    home, where = tree.resolve(), project.resolve()
    question = {
        "sources": [str(sources.resolve())],
        "playbook_dir": str(home / "playbooks" if (home / "playbooks").is_dir() else home),
        "extra": {PROJECT_VARIABLE: str(where)},
        **more,
    }
    environment = _environment(home, where)
    with _PREPARED.pop(_key(module, environment), None) or _start(module, environment) as process:
        try:
            said, trouble = process.communicate(json.dumps(question), _DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            raise UsageError(f"the inventory {sources} took more than {_DEADLINE_S:g} s", where=str(sources)) from error
        finally:
            process.kill()  # if it has not ended: on Ctrl-C, too, for which an inventory's program may not care
    try:
        answer: dict[str, Any] = json.loads(said)
    except json.JSONDecodeError:
        last = "\n".join(trouble.strip().splitlines()[-5:])
        # `from None`: the error of the decoder holds the text, and the text may hold secrets.
        raise UsageError(f"the inventory {sources} cannot be read", detail=last, where=str(sources)) from None
    return answer


def prepare(module: str, tree: Path, project: Path) -> None:
    """Start what the next `ask` of this kind will ask. It imports Ansible meanwhile, and ends with this process."""
    environment = _environment(tree.resolve(), project.resolve())
    key = _key(module, environment)
    if key not in _PREPARED:
        _PREPARED[key] = _start(module, environment)


def _key(module: str, environment: Mapping[str, str]) -> _Key:
    """Return what a process must have been started with: Ansible reads its settings when it is imported."""
    return module, os.getcwd(), frozenset(environment.items())  # noqa: PTH109 - a text


def _start(module: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", f"mcpops.ansible.{module}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _environment(tree: Path, project: Path) -> dict[str, str]:
    return minimal_environment(_settings(tree, project))


def _settings(tree: Path, project: Path) -> Mapping[str, str]:
    # A file of the inventory that cannot be read would silently leave its hosts out.
    settings = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True", "ANSIBLE_NOCOLOR": "True"}
    if (tree / "ansible.cfg").is_file():
        settings["ANSIBLE_CONFIG"] = str(tree / "ansible.cfg")
    return settings | vault_settings(project)
