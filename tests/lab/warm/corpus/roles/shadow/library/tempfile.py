#!/usr/bin/python
"""Ansible module of the role shadow; it stands before the built-in one of the same name."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(argument_spec={"state": {"default": "file"}}, supports_check_mode=True)
    module.exit_json(changed=False, path=f"none, a {module.params['state']} of the role")


if __name__ == "__main__":
    main()
