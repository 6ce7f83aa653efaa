#!/usr/bin/python
"""Ansible module: be an MCP client once, and judge what came back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mcp_probe
short_description: Prove an MCP server through its front, as a client
description:
  - Initializes a session, lists the tools, calls the canary tool and ends the session.
  - Fails when the answer came from another slot than expected, the canary failed, or a tool is missing.
  - Runs where the client would be (C(delegate_to=localhost)).
options:
  url: {description: "The MCP endpoint.", type: str, required: true}
  server_name: {description: "Name in the certificate, when the URL holds an address.", type: str}
  cafile: {description: "CA certificates in PEM; the system's when absent.", type: path}
  preview_token: {description: "One-time token that leads to the slot under test.", type: str}
  canary: {description: "C(tool) and C(arguments) of a call that must succeed.", type: dict}
  expect_slot: {description: "Slot that must have answered (C(blue), C(green)).", type: str}
  required_tools: {description: "Tools that must be there.", type: list, elements: str, default: []}
  removed_tools: {description: "Tools that may be missing all the same.", type: list, elements: str, default: []}
  timeout_s: {description: "Seconds for each request.", type: int, default: 10}
attributes:
  check_mode: {support: full}
author: mcpops
"""

EXAMPLES = r"""
- name: The new slot answers through the front
  mcp_probe:
    url: https://127.0.0.1:18443/mcp
    server_name: time.local.test
    cafile: .mcpops/local/ca/ca.crt
    canary: {tool: get_current_time, arguments: {timezone: UTC}}
  delegate_to: localhost
"""

RETURN = r"""
saw: {description: "Server, protocol, tools, canary, slot and session as seen.", type: dict, returned: when it answered}
lost_tools: {description: "Required tools that are missing.", type: list, returned: when it answered}
error: {description: "The error's name.", type: str, returned: failure}
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from mcpops.hostside.probe import Target, probe
from mcpops.hostside.state import HostError


def judge(saw: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return what is wrong with what was seen, in words, and the lost tools."""
    wrong = []
    if given["expect_slot"] and saw["slot"] != given["expect_slot"]:
        wrong.append(f"slot {saw['slot']} answered, expected {given['expect_slot']}")
    if not saw["tools"]:
        wrong.append("the server lists no tools at all")
    lost = sorted(set(given["required_tools"]) - set(saw["tools"]) - set(given["removed_tools"]))
    if lost:
        wrong.append(
            f"lost tools: {', '.join(lost)} (a release that drops tools on purpose lists them in removed_tools)"
        )
    if saw["canary"] and not saw["canary"]["ok"]:
        wrong.append(f"the canary {given['canary']['tool']} failed: {saw['canary']['saw']}")
    return wrong, lost


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "server_name": {"type": "str"},
            "cafile": {"type": "path"},
            "preview_token": {"type": "str", "no_log": True},
            "canary": {"type": "dict"},
            "expect_slot": {"type": "str"},
            "required_tools": {"type": "list", "elements": "str", "default": []},
            "removed_tools": {"type": "list", "elements": "str", "default": []},
            "timeout_s": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    given = module.params
    names = ("url", "cafile", "server_name", "preview_token", "canary", "timeout_s")
    try:
        saw = probe(Target(**{name: given[name] for name in names}))
    except HostError as error:
        detail = f" ({error.detail})" if error.detail else ""
        hint = f". Hint: {error.hint}" if error.hint else ""
        module.fail_json(msg=f"{error.message}{detail}{hint}", error=error.name)
    wrong, lost = judge(saw, given)
    if wrong:
        module.fail_json(msg="; ".join(wrong), error="lost_tool" if lost else "unfit", saw=saw, lost_tools=lost)
    module.exit_json(changed=False, saw=saw, lost_tools=lost)


if __name__ == "__main__":
    main()
