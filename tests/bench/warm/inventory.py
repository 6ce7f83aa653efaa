"""pyinfra's inventory: the hosts of the file that Ansible reads too, which BENCH_INVENTORY names."""

import json
import os
from pathlib import Path

_all = json.loads(Path(os.environ["BENCH_INVENTORY"]).read_text())["all"]
_ours = {
    "ssh_user": _all["vars"]["ansible_user"],
    "ssh_key": _all["vars"]["ansible_ssh_private_key_file"],
    "ssh_known_hosts_file": _all["vars"]["bench_known_hosts"],
    "ssh_strict_host_key_checking": "yes",
}
# pyinfra takes each list of this module for a group.
hosts = [(name, {**_ours, "ssh_hostname": host["ansible_host"]}) for name, host in _all["hosts"].items()]
