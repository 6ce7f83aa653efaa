#!/usr/bin/python
"""Ansible module of the role twin_one; the other role has one of the same name that answers otherwise."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twin_words import WORDS


def main():
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, role="twin_one", words=WORDS)


if __name__ == "__main__":
    main()
