"""The connection `warm` in our plays: the same as `ssh`, which is warm, too; a project's own would not be fenced."""

from __future__ import annotations

from mcpops.ansible.connection.ssh import DOCUMENTATION, Connection

__all__ = ["DOCUMENTATION", "Connection"]
