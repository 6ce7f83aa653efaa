#!/usr/bin/python
"""Ansible module of the corpus: numbers and names that no two modules may share."""

from __future__ import annotations

import os
import random
import tempfile
import uuid

from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    # Not hash("text"): modules of one process may share its seed, no result hangs on it.
    drawn = [
        random.random(),
        random.SystemRandom().random(),
        str(uuid.uuid4()),
        str(uuid.uuid1()),
        next(tempfile._get_candidate_names()),
        os.urandom(8).hex(),
        os.getpid(),
    ]
    module.exit_json(changed=False, drawn=[str(value) for value in drawn])


if __name__ == "__main__":
    main()
