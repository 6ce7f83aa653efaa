"""Differences between the two ways that are meant: none is in what a module says of the host or has done to it.

Each names the tasks, the field and the shape of both sides, so that anything else in the same place still counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tests.lab.warm.compare import Difference


@dataclass(frozen=True)
class Meant:
    """A difference that may be, by patterns of its title, its field and both its values as they are shown."""

    title: str
    field: str
    one: str
    other: str
    why: str

    def covers(self, found: Difference) -> bool:
        """Tell whether a difference is the one that is meant."""
        item = r"(?:results\[\d+\]\.)?"  # of a loop
        pairs = ((f"{item}(?:{self.field})", found.field), (self.one, found.one), (self.other, found.other))
        return re.search(self.title, found.title) is not None and all(
            re.fullmatch(pattern, text, re.DOTALL) for pattern, text in pairs
        )


_MEMORY = r'"/proc/\d+/fd/\d+'

MEANT = (
    Meant(
        "",
        r"interpreter\.(path|arguments)\[0\]|main\.(utils_)?file",
        r'"/\S*tmp/ansible_world_payload_<random>/ansible_world_payload\.zip\S*"',
        rf'{_MEMORY}\S*"',
        "the code of a module lies in anonymous memory, not in a directory",
    ),
    Meant(
        "",
        r"main\.loader",
        '"zipimporter"',
        '"_Importer"',
        "it is imported from there by an importer that keeps what was compiled",
    ),
    Meant(
        "",
        r"interpreter\.meta_path",
        '"(.*)"',
        '"_Importer (.*)"',
        "that importer stands before the others",
    ),
    Meant(
        "", r"interpreter\.collector\[3\]", r"\d{1,3}", r"\d{5}", "what was imported before the fork is not collected"
    ),
    Meant(
        "",
        r"process\.descriptors\.standard\.0",
        '"pipe"',
        '"/dev/null"',
        "both are at their end; the pipe carried the module's own code",
    ),
    Meant(
        r"^Endings / .*rarer ways",
        "module_stderr",
        r'"Traceback \(most recent call last\):\\n  File \\"<stdin>\\".*',
        r'"Traceback \(most recent call last\):\\n  File \\"child\.py\\".*',
        "the frames above the module's own are those of who called it",
    ),
    Meant(
        "",
        r"ansible_facts\.ansible_env\.SUDO_COMMAND",
        r'"/bin/sh -c echo BECOME-SUCCESS-<random> ; .*"',
        r'"/bin/sh -c echo MCPOPS-WARM; exec .*"',
        "sudo started the server, and not the module",
    ),
    Meant(
        "The session is cut within a module",
        "msg",
        r'"Task failed: Data could not be sent to remote host \\"<address>\\"\. Make sure .*"',
        r'"Task failed: The session with <address> broke while a task ran there .*"',
        "unreachable both ways; this says that the task may have been done, which is so both ways",
    ),
)


def not_meant(found: Iterable[Difference]) -> list[Difference]:
    """Return the differences that are none of those."""
    return [difference for difference in found if not any(meant.covers(difference) for meant in MEANT)]


def not_seen(found: Iterable[Difference]) -> list[Meant]:
    """Return what is meant to differ and does not any more."""
    seen = list(found)
    return [meant for meant in MEANT if not any(map(meant.covers, seen))]
