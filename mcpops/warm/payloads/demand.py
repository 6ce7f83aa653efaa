"""Which payloads a task may need: only these are read and hashed before it, however many are kept.

Who is wrong here pays 0.3 s: Ansible builds what it was not given.
"""

from __future__ import annotations

from collections.abc import Collection

from ansible.plugins import loader

# What Ansible's own action plugins call for many tasks, as ansible.legacy.NAME (a test reads it from their sources).
_COMMON = frozenset({"async_status", "async_wrapper", "command", "copy", "file", "setup", "slurp", "stat"})
_PACKAGES = frozenset({"apt", "apk", "dnf", "dnf5", "package", "pacman", "yum", "zypper"})
_CALLED = {
    "dnf": _PACKAGES,
    "package": _PACKAGES,
    "reboot": frozenset({"find"}),
    "service": frozenset({"openrc", "service", "systemd", "systemd_service", "sysvinit"}),
    "wait_for_connection": frozenset({"ping"}),
    "yum": _PACKAGES,
}


def wanted(action: str, collections: Collection[str]) -> frozenset[str] | None:
    """Return the last names of all modules that a task may run; None: any.

    `action` as the task has it, `collections` in which it looks for plain names.
    """
    if "{" in action or _has_foreign_plugin(action, collections):
        return None
    name = action.rpartition(".")[2]
    return _COMMON | _CALLED.get(name, frozenset()) | {name}


def _has_foreign_plugin(action: str, collections: Collection[str]) -> bool:
    """Whether an action plugin that is not Ansible's own runs it, or nobody knows."""
    try:
        found = loader.action_loader.find_plugin_with_context(action, collection_list=list(collections))
    except Exception:  # noqa: BLE001 - the task will say it better
        return True
    return bool(found.resolved and found.plugin_resolved_collection != "ansible.builtin")
