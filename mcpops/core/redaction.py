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
# A line of a longer value is looked for on its own, as a diff shows it; shorter ones are things like "}" or "---".
SHORTEST_LINE = 8


class Redactor:
    """Replaces known values by `***`. Build it once for an attempt: a key file alone has hundreds of spellings.

    `longest` is the length of the longest spelling of any value, in characters.
    """

    def __init__(self, values: Iterable[str]) -> None:
        forms: set[str] = set()
        for value in values:
            forms |= _forms(value)
        # Longest first: a value that is the start of another one must not leave the other's tail behind.
        self._forms = sorted(forms, key=len, reverse=True)
        self.longest = len(self._forms[0]) if forms else 0

    def __call__(self, text: str) -> str:
        """Return `text` without the known values."""
        # Mostly there is none. In 4 KB one pattern of 600 forms takes 13 ms, and looking for each of them 1 ms.
        found = [form for form in self._forms if form in text]
        return re.sub("|".join(map(re.escape, found)), MASK, text) if found else text

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
    """Return the spellings of one value: raw, per line, base64, URL-encoded, escaped for JSON, Python and a shell."""
    if len(value.strip()) < SHORTEST:
        return set()
    forms = {value, value.strip()}
    lines = value.splitlines()
    if len(lines) > 1:
        forms |= {line.strip() for line in lines if len(line.strip()) >= SHORTEST_LINE}
    for raw in list(forms):
        forms |= {quote(raw, safe=""), quote(raw), quote_plus(raw)}
        forms |= {json.dumps(raw)[1:-1], json.dumps(raw, ensure_ascii=False)[1:-1]}
        forms |= {repr(raw)[1:-1], raw.replace("'", "'\"'\"'")}
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
