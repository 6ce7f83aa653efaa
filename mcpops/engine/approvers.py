"""Who may approve: the owners of the keys in a file `approvers`, and never whoever asked.

The file has OpenSSH's format (`NAME KEYTYPE KEY`, see ALLOWED SIGNERS in ssh-keygen(1)). The machine's own
/etc/mcpops/approvers counts before the project's: where the people who ask can edit the project, root keeps the list.
"""

from __future__ import annotations

from pathlib import Path

from mcpops.core import sshsig
from mcpops.core.errors import Refused, UsageError

NAME = "approvers"
OF_THE_MACHINE = Path("/etc/mcpops") / NAME
FORMAT_HINT = "one line a key: NAME ssh-ed25519 AAAA…, as in ~/.ssh/id_ed25519.pub with a name in front"


def approvers_file(project: Path) -> Path | None:
    """Return the file that says who may approve here, or None."""
    return next((path for path in (OF_THE_MACHINE, project / NAME) if path.is_file()), None)


def owners(message: bytes, signature: str, file: Path) -> tuple[str, ...]:
    """Return the names of the key that signed `message`; raise Refused when it is nobody's in `file`."""
    names = sshsig.signers(message, signature, file)
    if not names:
        raise Refused("the signature is by no key of an approver", detail=f"expected a key of {file}", hint=FORMAT_HINT)
    patterns = [name for name in names if set(name) & set("*?!,")]
    if patterns:
        raise UsageError(
            f"{patterns[0]!r} names nobody", hint="give each key one name, without * and ?", where=str(file)
        )
    return names


def require_another(names: tuple[str, ...], requested_by: str) -> None:
    """Raise Refused when a key is that of the person who asked: `ada` and `ada@example.com` are the same."""
    if requested_by in {part for name in names for part in (name, name.partition("@")[0])}:
        raise Refused(f"{requested_by} asked for this run and cannot approve it", hint="another person decides")
