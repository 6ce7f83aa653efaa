#!/usr/bin/python
# WANT_JSON
"""Ansible module of the old kind: Python without Ansible's library, its arguments in a file of JSON."""

import json
import os
import sys
from pathlib import Path

with Path(sys.argv[1]).open() as handle:
    given = json.load(handle)
print(json.dumps({"changed": False, "word": given.get("word"), "count": len(sys.argv), "me": os.getuid()}))
