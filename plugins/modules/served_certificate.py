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
not_after: {description: "End of validity, as OpenSSL prints it.", type: str, returned: success}
"""

import socket
import ssl
import time
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

DAY_S = 86_400


def look(url: str, server_name: str, cafile: str | None, timeout_s: float) -> dict[str, object]:
    """Return the verified certificate that is served; raise OSError (ssl.SSLError is one)."""
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=cafile)
    with (
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout_s) as tcp,
        context.wrap_socket(tcp, server_hostname=server_name) as tls,
    ):
        return dict(tls.getpeercert() or {})


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
        certificate = look(asked["url"], asked["server_name"], asked["cafile"], asked["timeout_s"])
    except OSError as error:
        module.fail_json(
            msg=f"{asked['url']} serves no certificate that a client of {asked['server_name']} accepts: {error}; "
            "`mcpops run setup` issues and serves a new one"
        )
        return
    not_after = str(certificate["notAfter"])
    days_left = int((ssl.cert_time_to_seconds(not_after) - time.time()) // DAY_S)
    if days_left < asked["minimum_days"]:
        module.fail_json(
            msg=f"the certificate at {asked['url']} ends on {not_after}: {days_left} days left, "
            f"expected at least {asked['minimum_days']}; `mcpops run setup` renews it",
            days_left=days_left,
        )
    module.exit_json(changed=False, days_left=days_left, not_after=not_after)


if __name__ == "__main__":
    main()
