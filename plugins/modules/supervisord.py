#!/usr/bin/python
"""Ansible module: the supervisord of the embedded default, started apart or ended with everything below it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supervisord
short_description: Run the supervisord of the embedded default, or end it and every process of it
description:
  - Starts supervisord as a daemon with an environment of its own, so that it outlives whoever started it.
  - Ending it ends every process below it, also those that a killed supervisord left behind.
options:
  home: {description: "Directory of the environment; marks its processes.", type: path, required: true}
  state:
    description: What shall be; C(listed) only looks.
    type: str
    choices: [started, stopped, listed]
    default: started
  socket: {description: "Socket that supervisord answers on.", type: path, required: true}
  config: {description: "Its configuration; needed to start it.", type: path}
  program: {description: "Path of supervisord; needed to start it.", type: path}
attributes:
  check_mode: {support: full}
author: mcpops
"""

EXAMPLES = r"""
- name: Leave nothing running
  supervisord:
    home: .mcpops/local
    socket: .mcpops/local/supervisor/control.sock
    state: stopped
"""

RETURN = r"""
processes: {description: "What runs now.", type: list, returned: always}
ended: {description: "What ran before and was ended.", type: list, returned: "state is stopped"}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from mcpops.core.errors import McpopsError
from mcpops.deploy import embedded


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["started", "stopped", "listed"], "default": "started"},
            "socket": {"type": "path", "required": True},
            "config": {"type": "path"},
            "program": {"type": "path"},
        },
        required_if=[("state", "started", ("config", "program"))],
        supports_check_mode=True,
    )
    given = module.params
    home, socket = Path(given["home"]), Path(given["socket"])
    ended: list[embedded.Process] = []
    try:
        if given["state"] == "stopped":
            ended = embedded.processes(home) if module.check_mode else embedded.stop(home, socket)
            changed = bool(ended)
        elif given["state"] == "listed":
            changed = False
        elif module.check_mode:
            changed = not embedded.answers(socket)
        else:
            changed = embedded.start(home, Path(given["program"]), Path(given["config"]), socket)
    except McpopsError as error:
        module.fail_json(msg=f"{error.message}: {error.detail}; {error.hint}")
    module.exit_json(
        changed=changed,
        processes=[process.command for process in embedded.processes(home)],
        ended=[process.command for process in ended],
    )


if __name__ == "__main__":
    main()
