"""The private directory of an attempt: 0700, in memory where the machine has it, gone afterwards.

- project/: links to everything in the snapshot, so that a play finds its neighbours
- project/playbooks/: links, and the step itself as a real file beside them, so that `playbook_dir` is right
- env/settings: ansible-runner drops settings= silently when this file is missing (2.4.3)
- variables.yml: extra variables, 0600
- empty.cfg: Ansible's configuration when the snapshot has none
- attempt: whose directory this is (run:fence:attempt), for the reaper
- cp/, tmp/: ssh control sockets, Ansible's own temporary files

What Ansible copies to hosts, rendered secrets among it, lies on them in `~/.ansible/tmp` until the task ends. When all
of them are this machine, that is a directory of the attempt too, and goes with it; on disk, because it may be large.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

PREFIX = "mcpops-"
MARKER_FILE = "attempt"
_COLON = "."  # a marker in a path: some programs take a colon for the end of one


class _Unsafe(str):
    """Text that Ansible must not take for a template."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Safe YAML plus `!unsafe`."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401 - signature of PyYAML
        return True


_Dumper.add_representer(_Unsafe, lambda dumper, data: dumper.represent_scalar("!unsafe", str(data), style='"'))


def base_directory() -> Path:
    """Return where private directories live: in memory if possible, and with a short path.

    A control socket's path must stay below 108 bytes (sun_path in unix(7)), with 17 that ssh adds for a moment.
    """
    for candidate in ("/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "")):  # noqa: S108 - mkdtemp makes it private
        if candidate and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate)
    return Path(tempfile.gettempdir())


def create(marker: str) -> Path:
    """Make an empty private directory that says whose it is; the caller removes it, always."""
    root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base_directory()))  # mkdtemp creates 0700
    _write(root / MARKER_FILE, marker)
    return root


def fill(root: Path, spec: Mapping[str, Any]) -> None:
    """Put into `root` what ansible-runner and the play need, by a worker's spec."""
    for name in ("project", "env", "cp", "tmp"):
        (root / name).mkdir(mode=0o700)
    _link_tree(Path(spec["tree"]), root / "project")
    _write(step_path(root, spec["runbook"]), spec["play"])
    _write(root / "env" / "settings", json.dumps({"suppress_output_file": True}))
    _write(root / "empty.cfg", "")
    _write(root / "variables.yml", yaml.dump(_data(spec["variables"]), Dumper=_Dumper, allow_unicode=True))


def abandoned(fits: Callable[[str], bool]) -> list[Path]:
    """Return private directories of this user whose marker `fits`: a crash of parent and worker leaves one or two."""
    left = _on_host_directory().glob(f"{PREFIX}*")
    found = [root for root in left if fits(root.name.removeprefix(PREFIX).replace(_COLON, ":"))]
    for root in base_directory().glob(f"{PREFIX}*"):
        try:
            if root.stat().st_uid == os.getuid() and fits((root / MARKER_FILE).read_text(encoding="utf-8")):
                found.append(root)
        except OSError:
            continue  # not one of ours, or just removed
    return found


def lease_file(run_id: str, fence: int) -> Path:
    """Return where a run keeps how long its lease counts; see fence.py."""
    return base_directory() / f"{PREFIX}{run_id}.{fence}.lease"


def lease_files(run_id: str) -> list[tuple[int, Path]]:
    """Return the lease files of a run with their fences."""
    found = base_directory().glob(f"{PREFIX}{run_id}.*.lease")
    named = ((path.name.removesuffix(".lease").rpartition(".")[2], path) for path in found)
    return [(int(number), path) for number, path in named if number.isdigit()]


def on_host(marker: str) -> Path:
    """Return where an attempt on this machine alone keeps what Ansible copies to hosts."""
    return _on_host_directory() / f"{PREFIX}{marker.replace(':', _COLON)}"


def _on_host_directory() -> Path:
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises for a user without one
    return Path(home) / ".ansible" / "tmp"


def step_path(root: Path, runbook: str) -> Path:
    """Return where the text of the step stands: under the runbook's own name, for Ansible's messages."""
    return root / "project" / "playbooks" / Path(runbook).name


def remove(root: Path) -> None:
    """Remove the private directory; a second call finds nothing to do."""
    shutil.rmtree(root, ignore_errors=True)


def _link_tree(tree: Path, project: Path) -> None:
    """Link the snapshot's entries; `playbooks` becomes a real directory of links, to put the step beside them."""
    (project / "playbooks").mkdir(mode=0o700)
    for entry in tree.iterdir():
        if entry.name != "playbooks":
            (project / entry.name).symlink_to(entry.resolve())
    playbooks = tree / "playbooks"
    for entry in playbooks.iterdir() if playbooks.is_dir() else ():
        (project / "playbooks" / entry.name).symlink_to(entry.resolve())


def _write(path: Path, text: str) -> None:
    """Create `path` 0600 with `text`, replacing a link of the same name and never writing through it."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def _data(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Mark every text as data: what came from a host or a command line is never run as a template."""
    if isinstance(value, str):
        return _Unsafe(value) if "{" in value else value
    if isinstance(value, Mapping):
        return {str(key): _data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_data(item) for item in value]
    return value
