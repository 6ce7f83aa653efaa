"""The files of a queued run, as they travel in the journal: whoever drives it has them where it keeps its runs."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcpops.core.errors import UsageError
from mcpops.model.run import Run

PROJECT = "mcpops_project"  # the parameter that names the project: each machine has its own


def pack(home: Path) -> bytes:
    """Return the files of a run: its snapshot, and what was given to it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as tar:
        for path in sorted(home.iterdir()):
            tar.add(path, arcname=path.name)
    return packed.getvalue()


def unpack(tar: bytes, home: Path) -> None:
    """Put the files of a run into the new directory `home` (0700), whole or not at all; another worker may be quicker.

    What they are worth is for the plan's digest to say. Raises UsageError for what is no such archive, or has no room;
    nothing in one can lead out of the directory (PEP 706).
    """
    temporary: Path | None = None
    try:
        home.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))  # mkdtemp creates 0700
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:gz") as archive:
            archive.extractall(temporary, filter=_as_planned)  # noqa: S202 - the filter keeps names inside
        temporary.rename(home)
    except (tarfile.TarError, OSError, EOFError) as error:
        if home.is_dir():
            return
        raise UsageError(
            f"the files of run {home.name} cannot be taken from the journal",
            detail=str(error),
            hint=f"see whether {home.parent} has room; `mcpops runs abandon {home.name} --yes` gives the run up",
        ) from error
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _as_planned(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    """Keep to safe names, as PEP 706 has them, but with the modes that were planned: the digest covers them."""
    safe = tarfile.data_filter(member, path)
    return safe.replace(mode=stat.S_IMODE(member.mode), deep=False) if member.isreg() else safe


def relocated(run: Run, home: Path, project: Path) -> Run:
    """Return a run whose parameters lead to its files on this machine, and to the project here."""
    there = Path(run.snapshot).parent

    def moved(value: Any) -> Any:  # noqa: ANN401 - any JSON value
        inside = isinstance(value, str) and value.startswith(f"{there}/")
        return f"{home}{value.removeprefix(str(there))}" if inside else value

    parameters: Mapping[str, Any] = {name: moved(value) for name, value in run.parameters.items()}
    return replace(run, snapshot=str(home / "snapshot"), parameters={**parameters, PROJECT: str(project)})
