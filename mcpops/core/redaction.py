"""Take known secret values out of text, in each form that programs print them in."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"

# Shorter values occur by chance in ordinary text: masking them would destroy messages and tell their place.
SHORTEST = 4
# A line of a key file is looked for on its own; below this length lines are things like "}" or "---".
SHORTEST_LINE = 16


class Redactor:
    """Replaces known values by `***`. Build it once for an attempt; calling it is one pass of one pattern.

    `longest` is the length of the longest spelling of any value, in characters.
    """

    def __init__(self, values: Iterable[str]) -> None:
        forms: set[str] = set()
        for value in values:
            forms |= _forms(value)
        # Longest first: a value that is the start of another one must not leave the other's tail behind.
        ordered = sorted(forms, key=len, reverse=True)
        self.longest = len(ordered[0]) if ordered else 0
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """Return `text` without the known values."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def value(self, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        """Return a JSON value with every text in it redacted, keys too."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {self(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def _forms(value: str) -> set[str]:
    """Return the spellings of one value: raw, per line, base64, URL-encoded, JSON-escaped."""
    if len(value.strip()) < SHORTEST:
        return set()
    forms = {value, value.strip()}
    lines = value.splitlines()
    if len(lines) > 1:
        forms |= {line.strip() for line in lines if len(line.strip()) >= SHORTEST_LINE}
    for raw in list(forms):
        forms |= {quote(raw, safe=""), quote(raw), quote_plus(raw)}
        forms |= {json.dumps(raw)[1:-1], json.dumps(raw, ensure_ascii=False)[1:-1]}
        forms |= _base64_forms(raw.encode())
    return forms


def _base64_forms(raw: bytes) -> set[str]:
    """Return what base64 shows of `raw` wherever it stands in the encoded bytes (`user:password` has it inside).

    Base64 takes three bytes at a time, so there are three alignments. The characters that also depend on a
    neighbour are left out: 2 of them in front for one byte before, 3 for two, and the same at the end.
    """
    forms = {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
    for before, skip in ((0, 0), (1, 2), (2, 3)):
        padded = bytes(before) + raw
        whole = padded[: len(padded) - len(padded) % 3]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            inner = encode(whole).decode()[skip:]
            # Six characters are 36 bits; less would hit ordinary text.
            if len(inner) >= 6:
                forms.add(inner)
    return forms
