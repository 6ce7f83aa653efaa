"""Speaks hostside's lines, and misbehaves on order: `status`, `sleep S`, `die`, `garbage`, `pid`."""

import json
import os
import sys
import time

for line in sys.stdin:
    request = json.loads(line)
    verb, *rest = request["argv"]
    if verb == "sleep":
        time.sleep(float(rest[0]))
    if verb == "die":
        sys.exit("the host says goodbye")
    if verb == "garbage":
        print("Welcome to this host!", flush=True)
        continue
    refused = verb == "refuse"
    output = {"changed": False, "argv": request["argv"], "pid": os.getpid()}
    if refused:
        output["error"] = {"name": "stale", "message": "no", "detail": "", "hint": ""}
    print(json.dumps({"id": request["id"], "exit": 9 if refused else 0, "output": output}), flush=True)
