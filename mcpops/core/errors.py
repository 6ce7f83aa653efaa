"""The one error tree, and the one table of exit codes.

    McpopsError                 message, detail, hint, where; exit code in the class
    ├── Failed            1     a step, check or gate failed; nothing half-done is in force
    ├── UsageError        2     bad command line, configuration or runbook; nothing was started
    ├── Unknown           3     could not be proved either way
    ├── Busy              4     another run holds the lease of the environment
    ├── RolledBack        5     the change failed and was taken back
    ├── Waiting           6     stopped at a gate
    ├── Broken            7     undo failed too
    ├── Fenced            8     this process lost its right to act
    ├── Refused           9     a safety rule said no
    ├── InternalError    10     a bug
    └── Interrupted     130     Ctrl-C

User errors print `mcpops: error: …` and `mcpops: hint: …` without a traceback; bugs print one.
The form (message, detail, hint) follows PostgreSQL's error style guide.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """What the process says when it ends; an unknown code is a failure."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNKNOWN = 3
    BUSY = 4
    ROLLED_BACK = 5
    WAITING = 6
    BROKEN = 7
    FENCED = 8
    REFUSED = 9
    INTERNAL = 10
    INTERRUPTED = 130

    @property
    def word(self) -> str:
        """The name in the contract and in JSON: `rolled_back` for ROLLED_BACK."""
        return self.name.lower()


EXIT_MEANING: dict[ExitCode, str] = {
    ExitCode.OK: "it is so, and it was proved (or: it was already so)",
    ExitCode.FAILED: "a step, check or gate failed; nothing half-done is in force",
    ExitCode.USAGE: "bad command line, configuration or runbook; nothing was started",
    ExitCode.UNKNOWN: "could not be proved either way (unreachable, no data, no checks ran)",
    ExitCode.BUSY: "another run holds the environment's lease; says who, since when, what to do",
    ExitCode.ROLLED_BACK: "the change failed and was taken back; the old state is in force and was verified",
    ExitCode.WAITING: "stopped at a gate; says what it waits for",
    ExitCode.BROKEN: "undo failed too; the environment is locked until a person resolves it",
    ExitCode.FENCED: "this process lost its lease and stopped itself",
    ExitCode.REFUSED: "a safety rule said no (last good backup, freeze window, unsigned plan, lock-out)",
    ExitCode.INTERNAL: "a bug: traceback on stderr, and where the run record is",
    ExitCode.INTERRUPTED: "Ctrl-C; the run can be resumed",
}


class McpopsError(Exception):
    """An error that a person can act on.

    `message` says what; `detail` what was expected and found; `hint` the way out; `where` is `file:line`.
    """

    code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str, *, detail: str = "", hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        self.where = where

    def to_json(self) -> dict[str, Any]:
        """Return the object of the contract: `{"error": {"code", "name", …}}`."""
        return {
            "error": {
                "code": int(self.code),
                "name": self.code.word,
                "message": self.message,
                "detail": self.detail,
                "hint": self.hint,
                "where": self.where,
            }
        }


class Failed(McpopsError):
    """A step, check or gate failed; nothing half-done is in force."""

    code = ExitCode.FAILED


class UsageError(McpopsError):
    """Bad command line, configuration or runbook; nothing was started."""

    code = ExitCode.USAGE


class Unknown(McpopsError):
    """It could not be proved either way."""

    code = ExitCode.UNKNOWN


class Busy(McpopsError):
    """Another run holds the lease of the environment."""

    code = ExitCode.BUSY


class RolledBack(McpopsError):
    """The change failed and was taken back; the old state is in force and was verified."""

    code = ExitCode.ROLLED_BACK


class Waiting(McpopsError):
    """Stopped at a gate."""

    code = ExitCode.WAITING


class Broken(McpopsError):
    """Undo failed too; the environment is locked until a person resolves it."""

    code = ExitCode.BROKEN


class Fenced(McpopsError):
    """This process lost its right to act, and stopped."""

    code = ExitCode.FENCED


class Refused(McpopsError):
    """A safety rule said no."""

    code = ExitCode.REFUSED


class InternalError(McpopsError):
    """A bug."""

    code = ExitCode.INTERNAL


class Interrupted(McpopsError):
    """Ctrl-C. Never raised: the command line makes it of KeyboardInterrupt, to tell it."""

    code = ExitCode.INTERRUPTED


BY_CODE: dict[int, type[McpopsError]] = {
    int(kind.code): kind
    for kind in (Failed, UsageError, Unknown, Busy, RolledBack, Waiting, Broken, Fenced, Refused, InternalError)
}
