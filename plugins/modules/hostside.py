#!/usr/bin/python
"""Ansible module: run one command of the host-side program."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hostside
short_description: Run one command of the host-side program of mcpops
description:
  - The program answers with one JSON object and an exit code; this module turns them into an Ansible result.
  - In check mode the program is asked what would change and changes nothing.
options:
  argv:
    description: The command, for example C([front, activate, --slot, green, ...]).
    type: list
    elements: str
    required: true
  path: {description: "The installed program.", type: path, required: true}
  state_dir: {description: "State directory of the service.", type: path, required: true}
  run: {description: "Id of the run; commands that change something need it.", type: str}
  fence: {description: "Fence number of the run; commands that change something need it.", type: int}
  deadline_s:
    description: Seconds after which the command is ended.
    type: int
    default: 60
    aliases: [deadline]
  stdin: {description: "Text for the command's standard input (secrets never stand in argv).", type: str}
author: mcpops
"""

EXAMPLES = r"""
- name: Read the state of the front
  hostside:
    path: /usr/local/lib/mcpops/hostside.pyz
    state_dir: /var/lib/mcpops/time
    argv: [status]
  register: front
  check_mode: false
"""

RETURN = r"""
output: {description: "The program's JSON object.", type: dict, returned: always}
exit_code: {description: "The program's exit code, of the CLI's table.", type: int, returned: always}
error: {description: "The error's name, for example stale.", type: str, returned: failure}
"""

import json
import os
import subprocess
import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS = {
    "argv": {"type": "list", "elements": "str", "required": True},
    "path": {"type": "path", "required": True},
    "state_dir": {"type": "path", "required": True},
    "run": {"type": "str"},
    "fence": {"type": "int"},
    "deadline_s": {"type": "int", "default": 60, "aliases": ["deadline"]},
    "stdin": {"type": "str", "no_log": True},
}


def command(parameters: dict[str, Any], check_mode: bool) -> list[str]:
    """Return the argv of the program for these parameters."""
    words = [sys.executable, "-I", parameters["path"], "--state", parameters["state_dir"]]
    if parameters["run"] is not None:
        words += ["--run", parameters["run"]]
    if parameters["fence"] is not None:
        words += ["--fence", str(parameters["fence"])]
    if check_mode:
        words.append("--check")
    return words + list(parameters["argv"])


def failure(output: dict[str, Any]) -> str:
    """Return an error's message, detail and hint as one text."""
    error = output.get("error") or {}
    parts = [error.get("message", "no message")]
    if error.get("name") == "fenced":
        parts.insert(0, "fenced:")  # the engine stops at this word: a newer run is in charge
    if error.get("detail"):
        parts.append(f"({error['detail']})")
    text = " ".join(parts)
    return f"{text}. Hint: {error['hint']}" if error.get("hint") else text


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    parameters = module.params
    if module.check_mode and not os.path.exists(parameters["path"]):  # noqa: PTH110 - modules keep to os.path
        # First run in check mode: the program would have been installed just before.
        module.exit_json(changed=True, output={}, exit_code=0)
    try:
        done = subprocess.run(
            command(parameters, module.check_mode),
            input=(parameters["stdin"] or "").encode(),
            capture_output=True,
            timeout=parameters["deadline_s"],
            check=False,
        )
    except subprocess.TimeoutExpired:
        seconds = parameters["deadline_s"]
        module.fail_json(msg=f"no answer within {seconds} s", output={}, exit_code=3, error="deadline")
    except OSError as error:
        module.fail_json(msg=f"the program cannot be started: {error}", output={}, exit_code=3, error="not_started")
    try:
        output = json.loads(done.stdout)
    except ValueError:
        text = done.stderr.decode(errors="replace")[-2000:]
        module.fail_json(
            msg=f"no JSON answer, exit {done.returncode}: {text}. Hint: run the role hostside on this host",
            output={},
            exit_code=done.returncode,
            error="no_answer",
        )
    changed = bool(output.get("changed"))
    if done.returncode:
        name = (output.get("error") or {}).get("name")
        module.fail_json(msg=failure(output), changed=changed, output=output, exit_code=done.returncode, error=name)
    module.exit_json(changed=changed, output=output, exit_code=0)


if __name__ == "__main__":
    main()
