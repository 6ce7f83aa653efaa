#!/usr/bin/python
"""Ansible module of the corpus: import modules by name and say what came."""

from __future__ import annotations

import importlib

from ansible.module_utils.basic import AnsibleModule


def import_one(name):
    """Return the file and the WORD of a module, or why it did not come."""
    try:
        found = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the result
        return {"error": type(error).__name__, "text": str(error)}
    return {"file": getattr(found, "__file__", None), "word": getattr(found, "WORD", None)}


def main():
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    module.exit_json(changed=False, found={name: import_one(name) for name in module.params["names"]})


if __name__ == "__main__":
    main()
