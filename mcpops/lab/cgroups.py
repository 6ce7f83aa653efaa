"""One cgroup for a lab and one below it for each host, in every hierarchy (v1 controllers and v2 alike).

They carry the lab's name, so whoever knows the name finds every process of it, whatever became of its launcher.
Without a cgroup of its own in every v1 controller, two hosts' /system.slice would be one and the same, limits and all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from mcpops.core.errors import Failed

ROOT = Path("/sys/fs/cgroup")
TOOLS = "_tools"  # the member for programs that work on a lab: builds, ssh, skopeo; no host can have this name
_ENTER = 'for group in $1; do echo $$ > "$group/cgroup.procs" || exit 1; done; shift; exec "$@"'
_POLL_S = 0.02


def make(lab: str, member: str) -> list[Path]:
    """Create the cgroups of one member (a host, or TOOLS) of a lab, and return them."""
    made = []
    for parent in _parents():
        top = parent / _name(lab)
        top.mkdir(exist_ok=True)
        if (top / "cgroup.subtree_control").exists():
            _delegate(top)
        if (top / "cpuset.mems").exists() and (top / "cgroup.clone_children").exists():  # v1: empty until set
            for key in ("cpuset.cpus", "cpuset.mems"):
                (top / key).write_text((parent / key).read_text())
            (top / "cgroup.clone_children").write_text("1")
        (top / member).mkdir(exist_ok=True)
        made.append(top / member)
    return made


def _delegate(top: Path) -> None:
    """Let a v2 cgroup's children have every controller that it has (as far as the machine lets us)."""
    for controller in (top / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (top / "cgroup.subtree_control").write_text(f"+{controller}")


def inside(lab: str, argv: Sequence[str], member: str = TOOLS) -> list[str]:
    """Return the argv that runs `argv` in a lab's cgroups, so that `remove` ends it whatever became of its parent.

    It fails when the lab is taken down before it could enter them. No preexec_fn: that is not safe beside threads.
    """
    groups = " ".join(str(group) for group in make(lab, member))
    return ["/bin/sh", "-c", _ENTER, "sh", groups, *argv]


def find(lab: str, member: str = "") -> list[Path]:
    """Return the cgroups of the lab, or of one member of it, in all hierarchies."""
    tops = [Path(at) / _name(lab) for at, names, _ in os.walk(ROOT) if _name(lab) in names]
    return [top / member for top in tops if (top / member).is_dir()]


def processes(lab: str, member: str = "") -> set[int]:
    """Return the ids of all processes of the lab, or of one member of it."""
    found: set[int] = set()
    for top in find(lab, member):
        for at, _, _ in os.walk(top):
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in (Path(at) / "cgroup.procs").read_text().split()}
    return found


def remove(lab: str, member: str = "", *, timeout_s: float = 30) -> None:
    """Kill what runs in the cgroups and remove them, until none is left; raise Failed after `timeout_s`.

    A process that enters one of them while we look is met in the next turn; one that comes after the removal
    finds no cgroup to enter and ends by itself.
    """
    deadline_s = time.monotonic() + timeout_s
    _thaw_all(lab, member)
    while groups := find(lab, member):
        for pid in processes(lab, member):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for top in groups:
            for at, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(at).rmdir()
        if time.monotonic() > deadline_s:
            raise Failed(
                f"processes of the lab {lab} do not end",
                detail=f"after {timeout_s:.0f} s: {sorted(processes(lab, member))} in {[str(top) for top in groups]}",
                hint="a process in state D waits for the kernel; try again later",
            )
        time.sleep(_POLL_S)


def freeze(lab: str, member: str = "", *, frozen: bool) -> None:
    """Stop every process of a member where it stands, or let it go on; waits until it is so (at most 10 s)."""
    for top in find(lab, member):
        if (top / "freezer.state").exists():
            _settle(top / "freezer.state", "FROZEN" if frozen else "THAWED", top / "freezer.state")
        elif (top / "cgroup.freeze").exists() and not _has_v1_freezer():
            _settle(top / "cgroup.freeze", "1" if frozen else "0", top / "cgroup.events")


def _thaw_all(lab: str, member: str) -> None:
    """Thaw every cgroup below, for v1 holds even SIGKILL back: a host may be frozen, and a container in it paused."""
    for top in find(lab, member):
        for at, _, names in os.walk(top):
            if "freezer.state" in names:
                with contextlib.suppress(OSError):  # it may just have gone
                    (Path(at) / "freezer.state").write_text("THAWED")


def is_frozen(lab: str, member: str) -> bool:
    """Tell whether the member stands still."""
    for top in find(lab, member):
        if (top / "freezer.state").exists():
            return (top / "freezer.state").read_text().strip() != "THAWED"
        if (top / "cgroup.events").exists() and "frozen 1" in (top / "cgroup.events").read_text():
            return True
    return False


def _settle(control: Path, value: str, state: Path) -> None:
    wanted = f"frozen {value}" if state.name == "cgroup.events" else value
    deadline_s = time.monotonic() + 10
    control.write_text(value)
    while wanted not in state.read_text():
        if time.monotonic() > deadline_s:
            raise Failed(f"the cgroup {control.parent} does not become {value}", detail=state.read_text())
        time.sleep(_POLL_S)
        if state == control:
            control.write_text(value)  # v1 stays FREEZING when a process forked meanwhile; writing again helps


def _has_v1_freezer() -> bool:
    return (ROOT / "freezer").is_dir()


def _name(lab: str) -> str:
    return f"mcpops-lab.{lab}"


def _parents() -> list[Path]:
    """Return where a lab's cgroups go: below this process's own in each v1 hierarchy, at the top of v2.

    v2 gives controllers to the children of a cgroup without processes only; its top is the exception.
    """
    mine = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        kind, _, options = right.split()[:3]
        mount = Path(left.split()[4])
        if kind == "cgroup2":
            found.append(mount)
        elif kind == "cgroup":
            found += [
                mount / path.lstrip("/")
                for names, path in mine.items()
                if names and {*names.split(",")} <= {*options.split(",")}
            ]
    return found
