"""The root directory that every lab host starts from: built by mmdebstrap, cached by a digest of what went in."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpops.core.errors import Busy, Failed
from mcpops.lab import cgroups
from mcpops.lab.files import DATA, UMASK, locked, make_directories, remove_tree
from mcpops.lab.packages import find_program

SPEC = DATA / "base.toml"
APT_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
PARTIAL = "part-*"
_BUILD_TIMEOUT_S = 900
_LOCK_TIMEOUT_S = 1200  # another process may be building


def apt_sources(suite: str, path: Path = APT_SOURCES) -> str:
    """Return this machine's own apt sources with its Debian release replaced by `suite`.

    So a mirror or proxy that the machine was given is used here too, and none is named in the code. Falls back to
    the one-line format of older installations. Raises Failed when the machine has neither.
    """
    for candidate in (path, Path("/etc/apt/sources.list")):
        if candidate.is_file() and "debian" in candidate.read_text():
            return candidate.read_text().replace(platform.freedesktop_os_release()["VERSION_CODENAME"], suite)
    raise Failed(
        "the lab found no Debian package source on this machine",
        detail=f"looked in {path} and /etc/apt/sources.list",
        hint="the lab needs a Debian machine; on another system use the embedded default: make demo",
    )


@dataclass(frozen=True)
class BaseSpec:
    """What a base is made of; `digest` names it."""

    suite: str
    command: tuple[str, ...]
    setup: Path
    repository: tuple[str, ...]
    programs: dict[str, Path]
    sources: str

    @classmethod
    def read(cls, path: Path = SPEC) -> BaseSpec:
        """Read the file and find the programs it names; raise Failed with a hint when one is missing."""
        conf: dict[str, Any] = tomllib.loads(path.read_text())
        command = [
            "mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory", "--skip=cleanup/apt/lists",
            *[f"--dpkgopt={option}" for option in conf["dpkg_options"]],
            *[f"--aptopt={option}" for option in conf["apt_options"]],
            f"--include={','.join(conf['packages'])}",
        ]  # fmt: skip
        return cls(
            suite=conf["suite"],
            command=tuple(command),
            setup=path.with_name(conf["setup"]),
            repository=tuple(conf["repository"]),
            programs={
                target: Path(find_program(name, "pip install 'mcpops[lab]'"))
                for target, name in conf["programs"].items()
            },
            sources=apt_sources(conf["suite"]),
        )

    def digest(self) -> str:
        """Return 16 hex digits over everything that goes in: options, sources, script, programs."""
        text = json.dumps([self.suite, self.command, self.repository, sorted(self.programs), self.sources])
        total = hashlib.sha256(text.encode())
        for path in (self.setup, *self.programs.values()):
            with path.open("rb") as handle:
                total.update(hashlib.file_digest(handle, "sha256").digest())
        return total.hexdigest()[:16]


def base(cache: Path, spec: BaseSpec, *, lab: str, say: Callable[[str], None]) -> Path:
    """Return the base that `spec` describes: built (about a minute) if the cache lacks it, then never changed.

    It is built in the cgroups of `lab`, by which a build is found and ended when its launcher was killed. Raises
    Failed when the build fails, Busy when another build does not end.
    """
    root = cache / f"base-{spec.digest()}"
    with locked(cache / "lock", what="the lab's cache", timeout_s=_LOCK_TIMEOUT_S):
        if root.is_dir():
            return root
        _remove_partial(cache)
        say(f"lab: building the base {root.name} (once; about a minute)")
        part = cache / f"part-{os.getpid()}"
        _build(part, spec, lab)
        part.rename(root)
    return root


def _build(part: Path, spec: BaseSpec, lab: str) -> None:
    hook = f'--customize-hook=sh {spec.setup} "$1"'
    log = part.with_suffix(".log")
    with log.open("wb") as output:
        done = subprocess.run(
            cgroups.inside(lab, [*spec.command, hook, spec.suite, str(part), "-"]),
            input=spec.sources.encode(),
            stdout=output,
            stderr=output,
            env={**os.environ, "LAB_REPOSITORY": " ".join(spec.repository)},
            timeout=_BUILD_TIMEOUT_S,
            check=False,
            umask=UMASK,
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        raise Failed("the base of the lab could not be built", detail=tail, hint=f"the whole log: {log}")
    for target, program in spec.programs.items():
        place = part / target.lstrip("/")
        make_directories(place.parent)
        shutil.copy(program, place)
    log.unlink()


def _remove_partial(cache: Path) -> None:
    for left in cache.glob(PARTIAL):
        remove_tree(left)


def remove_partial(cache: Path) -> None:
    """Remove what a killed build left in the cache, unless a build is running."""
    if any(cache.glob(PARTIAL)):
        with contextlib.suppress(Busy), locked(cache / "lock", what="the lab's cache", timeout_s=0):
            _remove_partial(cache)
