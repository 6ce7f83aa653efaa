#!/usr/bin/python
"""Ansible module: look at the certificate that a server serves, as a client does."""

from __future__ import annotations

DOCUMENTATION = r"""
module: served_certificate
short_description: Check the certificate that a server serves
description:
  - Makes a new TLS connection and verifies chain and name as a client would, then the days left.
  - It looks at what is served, not at a file.
options:
  url: {description: "https URL of the server; IPv6 in brackets.", type: str, required: true}
  server_name: {description: "Name that the client asks for (SNI).", type: str, required: true}
  cafile: {description: "CA certificates in PEM; the system's when absent.", type: path}
  minimum_days: {description: "Fewer days left than this is a failure.", type: int, default: 7}
  timeout_s: {description: "Seconds for the connection.", type: int, default: 5}
author: mcpops
"""

EXAMPLES = r"""
- name: The served certificate is good
  served_certificate:
    url: https://127.0.0.1:18443
    server_name: time.local.test
    cafile: ca.crt
  delegate_to: localhost
"""

RETURN = r"""
days_left: {description: "Whole days until the certificate ends.", type: int, returned: success}
not_after: {description: "End of validity, in ISO 8601, UTC.", type: str, returned: success}
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from mcpops.tls.served import Served, look


def see(asked: dict[str, Any]) -> Served:
    """Look at what is asked for; a CA that cannot be read raises OSError."""
    ca_pem = Path(asked["cafile"]).read_text() if asked["cafile"] else None
    return look(asked["url"], asked["server_name"], ca_pem, asked["timeout_s"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "server_name": {"type": "str", "required": True},
            "cafile": {"type": "path"},
            "minimum_days": {"type": "int", "default": 7},
            "timeout_s": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    asked = module.params
    try:
        seen = see(asked)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"the CA for {asked['url']} cannot be read: {error}; `mcpops run setup` writes it")
        return
    days_left = seen.days_left(datetime.now(UTC))
    if seen.not_after is None or days_left is None:
        module.fail_json(
            msg=f"{asked['url']} serves no certificate that a client of {asked['server_name']} accepts: {seen.error}; "
            "`mcpops run setup` issues and serves a new one"
        )
        return
    not_after = seen.not_after.isoformat()
    if days_left < asked["minimum_days"]:
        module.fail_json(
            msg=f"the certificate at {asked['url']} ends on {not_after}: {days_left} days left, "
            f"expected at least {asked['minimum_days']}; `mcpops run setup` renews it",
            days_left=days_left,
        )
    module.exit_json(changed=False, days_left=days_left, not_after=not_after)


if __name__ == "__main__":
    main()
