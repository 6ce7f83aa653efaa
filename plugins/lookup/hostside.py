"""Lookup plugin: build the host-side program on the control node and return its path."""

from __future__ import annotations

DOCUMENTATION = r"""
name: hostside
short_description: Path of the host-side program, built from this installation
description:
  - Builds one zip file from mcpops.hostside. The same sources give the same bytes, so C(copy) changes nothing twice.
options:
  _terms: {description: "None are taken.", required: false}
author: mcpops
"""

EXAMPLES = r"""
- name: Install the host-side program
  ansible.builtin.copy:
    src: "{{ lookup('hostside') }}"
    dest: /usr/local/lib/mcpops/hostside.pyz
    mode: "0755"
"""

RETURN = r"""
_raw: {description: "One path on the control node.", type: list, elements: path}
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

try:
    from mcpops.hostside import bundle
except ImportError as error:
    bundle = None  # type: ignore[assignment]
    MISSING = str(error)


class LookupModule(LookupBase):  # type: ignore[misc]
    """Build the program."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: object) -> list[str]:
        """Return the path of the built program, one file for each content, in a directory that only this user reads."""
        if terms or kwargs:
            raise AnsibleError("lookup('hostside') takes no arguments")
        if bundle is None:
            raise AnsibleError(f"lookup('hostside') needs mcpops in the environment of ansible: {MISSING}")
        digest = hashlib.sha256(bundle.content()).hexdigest()
        # Ansible's own directory of this run: it is removed with it, and two runs never share a half-written file.
        directory = Path(tempfile.mkdtemp(prefix="hostside-", dir=self._local_tmp()))
        target = directory / f"hostside-{digest[:12]}.pyz"
        bundle.build(target)
        return [str(target)]

    def _local_tmp(self) -> str | None:
        """Return Ansible's temporary directory on the control node, if there is one."""
        from ansible import constants  # noqa: PLC0415 - its attributes exist only while Ansible runs

        return str(constants.DEFAULT_LOCAL_TMP) if Path(str(constants.DEFAULT_LOCAL_TMP)).is_dir() else None
