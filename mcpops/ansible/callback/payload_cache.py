"""The payload cache in our plays: always on, whatever a project's ansible.cfg enables."""

from __future__ import annotations

from mcpops.warm.payloads import callback

DOCUMENTATION = callback.DOCUMENTATION


class CallbackModule(callback.CallbackModule):
    """The same."""

    CALLBACK_NEEDS_ENABLED = False
