"""Callback plugin: keep AnsiballZ payloads between runs. See docs/explanation/warm.md."""

from __future__ import annotations

from ansible.plugins.callback import CallbackBase

try:
    from mcpops.warm.payloads.callback import DOCUMENTATION, CallbackModule
except ImportError as error:
    # An error here would end the run: Ansible does not go on without a callback that cannot be loaded.
    MISSING = str(error)
    DOCUMENTATION = "{name: payload_cache, type: aggregate, short_description: Stands aside, options: {}}"

    class CallbackModule(CallbackBase):  # type: ignore[misc,no-redef]
        """Says why it does nothing."""

        CALLBACK_VERSION = 2.0
        CALLBACK_TYPE = "aggregate"
        CALLBACK_NAME = "payload_cache"
        CALLBACK_NEEDS_ENABLED = True

        def v2_playbook_on_start(self, playbook: object) -> None:
            """Warn once."""
            self._display.warning(f"payload cache: it needs mcpops in the environment of ansible: {MISSING}")


__all__ = ["DOCUMENTATION", "CallbackModule"]
