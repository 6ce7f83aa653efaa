#!/usr/bin/python
"""Ansible module: a certificate of the environment's private authority, made on the control node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate
short_description: Have a certificate of a small private authority
description:
  - Makes the authority when there is none, and a certificate when it is absent, past two thirds of its life, for
    other names, or not of this authority and key. Otherwise nothing changes.
  - Runs on the control node (C(delegate_to=localhost)), where the authority's key stays.
options:
  authority: {description: "Directory of the authority (C(ca.crt), C(ca.key)).", type: path, required: true}
  authority_name: {description: "Common name of a new authority.", type: str, default: mcpops private CA}
  name: {description: "Name of the files.", type: str, required: true}
  names: {description: "DNS names and IP addresses (v4, v6).", type: list, elements: str, required: true}
  directory: {description: "Where the files go; the authority's directory when absent.", type: path}
  days: {description: "Lifetime of a new certificate.", type: int, default: 90}
attributes:
  check_mode: {support: full}
author: mcpops
"""

EXAMPLES = r"""
- name: Have the certificate of the front
  certificate:
    authority: .mcpops/local/ca
    name: front
    names: [time.local.test, 127.0.0.1, "::1"]
  delegate_to: localhost
"""

RETURN = r"""
cafile: {description: "The authority's certificate.", type: path, returned: always}
key: {description: "Private key, mode 0600.", type: path, returned: always}
cert: {description: "The certificate.", type: path, returned: always}
chain: {description: "The certificate and the authority's.", type: path, returned: always}
combined: {description: "Chain and key in one file, mode 0600, as HAProxy reads it.", type: path, returned: always}
not_after: {description: "End of validity, RFC 3339.", type: str, returned: always}
reason: {description: "Why a new one was made; empty when none was.", type: str, returned: always}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from mcpops.core.clock import to_text
from mcpops.core.errors import McpopsError
from mcpops.tls.ca import CertificateAuthority


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "authority": {"type": "path", "required": True},
            "authority_name": {"type": "str", "default": "mcpops private CA"},
            "name": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "directory": {"type": "path"},
            "days": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    given = module.params
    home = Path(given["authority"])
    try:
        authority = CertificateAuthority.ensure(home, given["authority_name"], writes=not module.check_mode)
        issued = authority.issue(given["name"], given["names"], Path(given["directory"] or home), given["days"])
    except McpopsError as error:
        module.fail_json(msg=f"{error.message}; {error.hint}", detail=error.detail)
    except OSError as error:
        module.fail_json(msg=f"the certificate {given['name']} could not be written: {error}")
    module.exit_json(
        changed=authority.created or issued.changed,
        cafile=str(authority.cafile),
        key=str(issued.key),
        cert=str(issued.cert),
        chain=str(issued.chain),
        combined=str(issued.combined),
        not_after=to_text(issued.not_after),
        reason=issued.reason,
    )


if __name__ == "__main__":
    main()
