"""One way to turn a value into bytes and a digest, for plans, releases and the record."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_ODD = re.compile("[\x00\ud800-\udfff]")


def canonical(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return `value` as JSON with sorted keys and no spaces, in UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def storable(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a value without what no database takes: NUL, and halves of surrogate pairs (bytes that were no UTF-8)."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode() if _ODD.search(value) else value
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(item) for item in value]
    return value


def digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return `sha256:` and the hex digest of the canonical form."""
    return f"sha256:{hashlib.sha256(canonical(value)).hexdigest()}"
