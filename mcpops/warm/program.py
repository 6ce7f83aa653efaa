"""The program that is sent to a host: the modules of `host`, and what starts them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PACKAGE = "mcpops.warm.host"
_MODULES = ("session", "scratch", "own", "payloads", "child", "server")  # each imports only earlier ones
_MAIN = """\
import json, sys, types
package = {package!r}
sys.modules[package] = types.ModuleType(package)
for name, source in json.loads({sources!r}):
    module = sys.modules[package + "." + name] = types.ModuleType(package + "." + name)
    exec(compile(source, name + ".py", "exec", dont_inherit=True), module.__dict__)
sys.modules[package + ".server"].main(json.loads({settings!r}))
"""


@functools.cache
def _sources() -> str:
    directory = Path(__file__).parent / "host"
    return json.dumps([(name, (directory / f"{name}.py").read_text(encoding="utf-8")) for name in _MODULES])


def program(settings: Mapping[str, Any]) -> bytes:
    """Return the program, with its length in a line before it: it shares standard input with what it will read."""
    text = _MAIN.format(package=_PACKAGE, sources=_sources(), settings=json.dumps(settings)).encode()
    return b"%d\n%s" % (len(text), text)
