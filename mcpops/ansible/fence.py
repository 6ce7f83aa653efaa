"""The fence of plays: who has lost the right to act gets no command through to a host, not even one more.

Our connection plugins (`connection/`) ask here before each command. Two things say no:

- the deadline of the lease, kept by the run's heartbeat in a file of this machine (CLOCK_BOOTTIME, which goes on while
  the machine sleeps): a controller that was frozen and wakes is stopped by it before it reaches anybody;
- the host, which keeps the highest fence number that it has seen in `~/.mcpops/fence/SCOPE/` of the login user, one
  empty file a number, so that two controllers need no lock to agree on the highest. The fence of a service there
  (`mcpops.hostside`) counts as well: a rollback raises that one, and stops the plays of the deploy too.

A warm server (`mcpops.warm`) is started as one such command, and asks again before each task.

A command announces itself (`.NUMBER.PID`) before it looks, and a watchdog beside it looks again each second: when a
higher number comes, or the connection that started it is gone, it ends the command and all below it. Whoever brings a
higher number waits until no command under a lower one is left. So a command of an earlier controller neither starts nor
goes on beside its successor's, with pipelining (no terminal, no hang-up) as without.

It cannot end what left its tree on purpose (`async`, `systemd-run`), nor what runs under a `become` that asks for a
password. A host where the number cannot be kept (disk full, read-only) obeys: the journal's lease is left.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpops.core.files import write_atomic

SCOPE = "MCPOPS_FENCE_SCOPE"
HERE = "MCPOPS_FENCE_HERE"  # the scope on this machine: other projects of the same name may be here
NUMBER = "MCPOPS_FENCE_NUMBER"
ROOT = "MCPOPS_FENCE_ROOT"  # the attempt's private directory, where a refusal is told
DEADLINE = "MCPOPS_FENCE_DEADLINE"  # the file with the end of the lease
BESIDE = "MCPOPS_FENCE_BESIDE"  # fence files of services on the hosts, which a rollback raises
EXIT_FENCED = 96  # of a command that a host refused, together with SAYS; no shell and no module of Ansible's uses it
EXIT_HELD = 97  # the same, of one that was not begun because an earlier controller's goes on
SAYS = "mcpops: "
HOME = ".mcpops/fence"
TOLD = "fenced"  # the file in ROOT

# POSIX sh; it needs nothing on a host but pgrep (procps), and that only to kill. `true` and not `:` opens files that
# may not be writable: a special builtin would end the shell. The sorted pathname expansion finds the highest number, as
# all have 13 digits until the year 2286.
_SCRIPT = """\
d="$HOME/{home}/{scope}" n={number}
top() {{ h=0; for f in "$d"/[0-9]*; do [ -e "$f" ] && h=${{f##*/}}; done
  for f in {beside}; do
    [ -r "$f" ] && x=$(sed -n 's/.*"fence": *\\([0-9]*\\).*/\\1/p' "$f") && [ "${{x:-0}}" -gt "$h" ] && h=$x
  done; }}
kin() {{ for c in $(pgrep -P "$1"); do [ "$c" = "$me" ] || kin "$c"; done
  [ "$1" = $$ ] || kill -9 "$1" 2>/dev/null || sudo -n kill -9 "$1" 2>/dev/null; }}
no() {{ rm -f "$a"; echo "{says}fenced by $h" >&2; exit {refused}; }}
a="$d/.$n.$$"
if [ ! -e "$d/$n" ]; then mkdir -p "$d" && chmod 700 "$d" && true >"$d/$n"; new=1; else new=; fi 2>/dev/null
true 2>/dev/null >"$a"
top
[ "$h" -gt "$n" ] && no
for f in "$d"/.[0-9]*.[0-9]*; do
  m=${{f#"$d"/.}} p=${{f##*.}}; m=${{m%.*}} t=0
  [ -e "$f" ] && [ "$m" -lt "$n" ] || continue
  while grep -qs {home} "/proc/$p/cmdline"; do
    t=$((t+1))
    [ $t -gt 20 ] && rm -f "$a" && echo "{says}a command under fence $m does not end" >&2 && exit {held}
    sleep 0.5
  done; rm -f "$f"
done
if [ "$new" ]; then
  for f in "$d"/[0-9]*; do [ "${{f##*/}}" -lt "$n" ] && rm -f "$f"; done
fi
read -r x </proc/$$/stat; set -- ${{x##*)}}; u=$2
(while sleep 1; do
  read -r x 2>/dev/null </proc/$$/stat || exit; set -- ${{x##*)}}; top
  if [ "$h" -gt "$n" ] || [ "$2" != "$u" ]; then me=$(sh -c 'echo $PPID'); kin $$; rm -f "$a"; exit; fi
done) </dev/null >/dev/null 2>&1 &
w=$!
(
{command}
)
r=$?; kill "$w" 2>/dev/null; top
[ "$h" -gt "$n" ] && no
rm -f "$a"; exit $r
"""


class Refused(Exception):
    """The right to act is gone; says why."""


class Held(Exception):
    """A command of an earlier controller goes on; says so. Who comes may act once it ended."""


@dataclass(frozen=True)
class Fence:
    """What an attempt's plugins know: its number, for what it counts, and where a refusal is told."""

    scope: str
    here: str
    number: int
    root: Path
    deadline: Path | None
    beside: tuple[str, ...] = ()

    @classmethod
    def of_environment(cls) -> Fence | None:
        """Return the fence of this process's attempt, None outside of one."""
        said = os.environ.get(NUMBER)
        if not said:
            return None
        deadline, beside = os.environ.get(DEADLINE), os.environ.get(BESIDE, "").split("\n")
        return cls(
            scope=os.environ[SCOPE],
            here=os.environ[HERE],
            number=int(said),
            root=Path(os.environ[ROOT]),
            deadline=Path(deadline) if deadline else None,
            beside=tuple(filter(None, beside)),
        )

    def wrap(self, command: str) -> str:
        """Return a command that a host runs only if it has seen no higher number."""
        script = _SCRIPT.format(
            home=HOME,
            scope=self.scope,
            number=self.number,
            beside=shlex.join(self.beside),
            refused=EXIT_FENCED,
            held=EXIT_HELD,
            says=SAYS,
            command=command,
        )
        return f"/bin/sh -c {shlex.quote(script)}"

    def for_server(self) -> dict[str, Any]:
        """Return what a warm server needs, to ask before each task what `wrap` asks before each command."""
        return {"number": self.number, "directory": f"{HOME}/{self.scope}", "beside": list(self.beside)}

    def judge(self, host: str, code: int | None, said: str) -> None:
        """Raise Refused when a host refused a wrapped command, Held when an earlier one still goes on there."""
        _, found, why = said.rpartition(SAYS)
        if found and code == EXIT_FENCED:
            self.refuse(host, why.strip().partition("\n")[0])
        if found and code == EXIT_HELD:
            raise Held(why.strip().partition("\n")[0])

    def require_lease(self) -> None:
        """Raise Refused once the lease of the run ended without a renewal; tell it."""
        if self.deadline is None:
            return
        try:
            until = float(self.deadline.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            until = 0.0  # the run that kept it is gone
        if time.clock_gettime(time.CLOCK_BOOTTIME) >= until:
            self.refuse("control", "the lease ended while this process stood still")

    def require_here(self) -> None:
        """Do for a command of this machine what the script does on others; dying with the attempt is seen to."""
        home = Path(os.path.expanduser("~")) / HOME / self.here  # noqa: PTH111 - Path.home() raises without one
        with suppress(OSError):
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            (home / str(self.number)).touch(0o600)
        with suppress(OSError):
            numbers = sorted(int(path.name) for path in home.iterdir() if path.name.isdigit())
            if numbers[-1:] > [self.number]:
                self.refuse("localhost", f"fenced by {numbers[-1]}")
            for older in numbers[:-1]:
                (home / str(older)).unlink(missing_ok=True)
        for path in self.beside:
            with suppress(OSError, ValueError, KeyError, TypeError):
                raised = int(json.loads(Path(path).read_text(encoding="utf-8"))["fence"])
                if raised > self.number:
                    self.refuse("localhost", f"fenced by {raised}")

    def refuse(self, host: str, why: str) -> None:
        """Tell the attempt, past whatever the play makes of an error, and raise Refused."""
        with suppress(OSError):
            (self.root / TOLD).write_text(f"{host}: {why}", encoding="utf-8")
        raise Refused(f"fenced: {why}")


def told(root: Path) -> str:
    """Return what a plugin told of a refusal, or nothing."""
    try:
        return (root / TOLD).read_text(encoding="utf-8")
    except OSError:
        return ""


def keep_deadline(path: Path, seconds: float) -> None:
    """Write that the lease counts for so many seconds from now; a reader sees the old or the new time."""
    write_atomic(path, str(time.clock_gettime(time.CLOCK_BOOTTIME) + seconds))
