"""Ansible lookup: a release file as the bundle that hosts get."""

from __future__ import annotations

DOCUMENTATION = r"""
name: release
short_description: Read a release file
description:
  - Reads and checks release files; every error is told with file and line.
options:
  _terms: {description: "Paths of release files.", required: true}
author: mcpops
"""

EXAMPLES = r"""
- name: Show the digest of a release
  ansible.builtin.debug:
    msg: "{{ lookup('release', 'releases/time-2026.10.10.yml').manifest.digest }}"
"""

RETURN = r"""
_raw:
  description: "C(manifest), and C(contents): the texts of the lock file and the release's own files, by name."
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from mcpops.core.errors import McpopsError
from mcpops.deploy.release import load_release


class LookupModule(LookupBase):
    """Return the bundle of each release file."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - Ansible's signature
        """Read the files; raise AnsibleError with every error of the first bad one."""
        del variables, kwargs
        try:
            return [load_release(Path(term)).bundle() for term in terms]
        except McpopsError as error:
            detail = f"\n{error.detail}" if error.detail else ""
            hint = f"\nHint: {error.hint}" if error.hint else ""
            raise AnsibleError(f"{error.message}{detail}{hint}") from error
