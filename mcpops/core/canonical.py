"""One way to turn a value into bytes and a digest, for plans, releases and the record."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return `value` as JSON with sorted keys and no spaces, in UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return `sha256:` and the hex digest of the canonical form."""
    return f"sha256:{hashlib.sha256(canonical(value)).hexdigest()}"
