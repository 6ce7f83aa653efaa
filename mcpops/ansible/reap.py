"""End what a dead controller left: processes that carry its marker, and its private directories."""

from __future__ import annotations

from collections.abc import Callable

from mcpops.ansible import private
from mcpops.ansible.call import MARKER
from mcpops.core.proc import kill_until_gone, with_environment


def reap(run_id: str, *, fence: int) -> int:
    """SIGKILL the processes of attempts of `run_id` with a fence up to `fence`; return how many there were.

    A higher fence belongs to a successor and is left alone. Raises TimeoutError when a process does not die.
    Commands on other hosts are not processes of this machine: there the hosts' own fence holds.
    """

    def fits(marker: str) -> bool:
        run, _, rest = marker.partition(":")
        number = rest.partition(":")[0]
        return run == run_id and number.isdigit() and int(number) <= fence

    count = _reap(fits)
    for number, path in private.lease_files(run_id):
        if number <= fence:
            path.unlink(missing_ok=True)
    return count


def reap_attempt(marker: str) -> int:
    """SIGKILL the processes of exactly one attempt."""
    return _reap(lambda found: found == marker)


def _reap(fits: Callable[[str], bool]) -> int:
    count = kill_until_gone(lambda: with_environment(MARKER, fits))
    for root in private.abandoned(fits):
        private.remove(root)
    return count
