#!/usr/bin/python
"""Ansible module of the oldest kind: Python whose arguments are a file of key=value pairs."""

import json
import shlex
import sys
from pathlib import Path

with Path(sys.argv[1]).open() as handle:
    words = shlex.split(handle.read())
given = dict(word.split("=", 1) for word in words if "=" in word and not word.startswith("_ansible"))
print(json.dumps({"changed": False, "given": given}))
