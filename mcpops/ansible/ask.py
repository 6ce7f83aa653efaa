"""Ask Ansible's own classes: one question and one answer, both JSON, in a process of their own."""

from __future__ import annotations

import json
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


def ask(module: str, sources: Path, tree: Path, project: Path, **more: object) -> dict[str, Any]:
    """Return what `python -m mcpops.ansible.MODULE` answers about the inventory `sources`.

    `tree` has ansible.cfg and playbooks/: the project itself, or its snapshot. The answer comes over a pipe, so it
    may hold secrets. Raises UsageError when Ansible cannot be asked, or takes a minute.
    """
    home = tree.resolve()
    question = {
        "sources": [str(sources.resolve())],
        "playbook_dir": str(home / "playbooks" if (home / "playbooks").is_dir() else home),
        "extra": {PROJECT_VARIABLE: str(project.resolve())},
        **more,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", f"mcpops.ansible.{module}"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
            env=minimal_environment(_settings(home, project)),
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"the inventory {sources} took more than {_DEADLINE_S:g} s", where=str(sources)) from error
    except json.JSONDecodeError:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        # `from None`: the error of the decoder holds the text, and the text may hold secrets.
        raise UsageError(f"the inventory {sources} cannot be read", detail=last, where=str(sources)) from None
    return answer


def _settings(tree: Path, project: Path) -> Mapping[str, str]:
    # A file of the inventory that cannot be read would silently leave its hosts out.
    settings = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True", "ANSIBLE_NOCOLOR": "True"}
    if (tree / "ansible.cfg").is_file():
        settings["ANSIBLE_CONFIG"] = str(tree / "ansible.cfg")
    return settings | vault_settings(project)
