"""Target: how to reach one host of an environment, without Ansible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Target:
    """One host: where it is, how to log in, where hostside lives there.

    `state_dir` is hostside's directory of the service; `python` the interpreter that runs it.
    """

    name: str
    address: str
    connection: Literal["ssh", "local"]
    python: str
    hostside_path: str
    state_dir: str
    port: int = 22
    user: str = "root"
    private_key_file: str | None = None
    known_hosts_file: str | None = None
    ssh_config_file: str | None = None
