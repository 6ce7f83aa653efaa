"""Know an AnsiballZ wrapper: what Ansible sends to an interpreter's standard input to run one module.

The wrapper is a Python program made of a fixed text and eight arguments (executor/module_common.py of ansible-core).
Its text is known by digest. A version whose text we have not tried runs as it always did.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import re
from dataclasses import dataclass

from mcpops.warm.errors import Unknown

# SHA-256 of the wrapper's text between its first line, which names the interpreter, and the arguments -> what it puts
# into the sitecustomize.py of the zip. The same in ansible-core 2.19 and 2.20; tests run with 2.19.14.
_SITECUSTOMIZE = {
    "e0bebdf1b26c62cb3ae8f80185aac9528f29da629afca8c2f79ddb3418712e18": 'import sys\\nsys.path.insert(0,"%s")\\n',
}
_MARK = b'\n\nif __name__ == "__main__":\n    _ansiballz_main(\n'
_HEAD_BYTES = 400  # the line that says what this is comes first
_KEYS = ("ansible_module", "module_fqn", "profile", "date_time", "rlimit_nofile", "params", "extensions", "zip_data")
_NAME = re.compile(r"[\w.]+")


@dataclass(frozen=True)
class Module:
    """One run of a module, as the wrapper's arguments have it; `archive` is the zip in base64, `digest` its SHA-256."""

    fqn: str
    profile: str
    nofile: int
    parameters: bytes
    archive: bytes
    digest: str
    sitecustomize: str

    def payload(self) -> bytes:
        """Return the zip."""
        return base64.b64decode(self.archive)


def parse(data: bytes) -> Module:
    """Return what a wrapper is to run; raises Unknown when it is anything else, or not exactly so."""
    if not data.startswith(b"#!") or b"\n_ANSIBALLZ_WRAPPER = True" not in data[:_HEAD_BYTES]:
        raise Unknown("not a Python module of Ansible's")
    mark = data.find(_MARK)
    text = data[data.find(b"\n") : mark].strip(b"\n")
    sitecustomize = _SITECUSTOMIZE.get(hashlib.sha256(text).hexdigest()) if mark > 0 else None
    if sitecustomize is None:
        raise Unknown("a wrapper of another version of ansible-core", once=True)
    values = _arguments(data[mark + len(_MARK) :])
    archive, name = values["zip_data"], _text(values["module_fqn"])
    if values["extensions"] != b"{}" or archive[:1] + archive[-1:] != b"''" or not _NAME.fullmatch(name):
        raise Unknown("a module with extensions of Ansible's own tests")
    return Module(
        fqn=name,
        profile=_text(values["profile"]),
        nofile=int(values["rlimit_nofile"]),
        parameters=_text(values["params"]).encode(),
        archive=archive[1:-1],
        digest=hashlib.sha256(archive[1:-1]).hexdigest(),
        sitecustomize=sitecustomize,
    )


def _arguments(tail: bytes) -> dict[str, bytes]:
    """Return the arguments as Python literals; raises Unknown unless there are these and no other, one a line."""
    lines = tail.split(b"\n")
    pairs = [line.partition(b"=") for line in lines[:-2]]
    if lines[-2:] != [b")", b""] or tuple(pair[0].decode() for pair in pairs) != _KEYS:
        raise Unknown("a wrapper with other arguments", once=True)
    if not all(value.endswith(b",") for _, _, value in pairs):
        raise Unknown("a wrapper with other arguments", once=True)
    return {key.decode(): value[:-1] for key, _, value in pairs}


def _text(literal: bytes) -> str:
    """Return the string that a Python literal means; raises Unknown when it means anything else."""
    try:
        value = ast.literal_eval(literal.decode())
    except (SyntaxError, ValueError) as error:
        raise Unknown("a wrapper with other arguments", once=True) from error
    if not isinstance(value, str):
        raise Unknown("a wrapper with other arguments", once=True)
    return value
