"""What can go wrong with a warm connection, by what is known of the task: not begun, or nobody knows."""

from __future__ import annotations


class Unknown(Exception):
    """This is not known for certain: it takes the ordinary way. `once`: the user should be told, once a run."""

    def __init__(self, why: str, *, once: bool = False) -> None:
        super().__init__(why)
        self.once = once


class NotStarted(Exception):
    """The session ended, or took too long, before its server was ready: ssh's exit code if it ended, what it said."""

    def __init__(self, why: str, code: int | None, said: str) -> None:
        super().__init__(f"{why}: {said.strip()[-300:]}" if said.strip() else why)
        self.code, self.said = code, said


class Absent(Exception):
    """The server left before it took the request: nothing was done, and another can be started."""


class Refused(Exception):
    """The server would not do it: nothing was done. `fence` is the higher number, if that is why."""

    def __init__(self, why: str, fence: int) -> None:
        super().__init__(why)
        self.fence = fence


class Broken(Exception):
    """The session ended, or said what it should not, after the request was sent: nobody knows what was done."""
