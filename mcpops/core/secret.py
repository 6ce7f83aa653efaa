"""Secret: a value that never prints itself."""

from __future__ import annotations

import hmac


class Secret:
    """Text that must not be seen: `reveal()` is the only way to it.

    `str`, `repr`, formatting and pickling give the mask or refuse, so that a log line, an exception or a
    traceback with local variables cannot leak it by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value; the caller writes it to a 0600 file or a pipe, and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __reduce__(self) -> str | tuple[object, ...]:
        msg = "a Secret is not pickled"
        raise TypeError(msg)
