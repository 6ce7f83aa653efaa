"""Connection plugin: ssh, with modules run by a warm server on the host. See docs/explanation/warm.md."""

from __future__ import annotations

from ansible.errors import AnsibleError

try:
    from mcpops.warm.connection import DOCUMENTATION, Connection
except ImportError as error:
    raise AnsibleError(f"the connection warm needs mcpops in the environment of ansible: {error}") from error

__all__ = ["DOCUMENTATION", "Connection"]
