"""The lab's images of a real MCP server: built without a daemon, cached by a digest of their inputs."""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpops.core.errors import Failed
from mcpops.lab import cgroups
from mcpops.lab.base import apt_sources
from mcpops.lab.files import DATA, locked
from mcpops.lab.layers import EPOCH_S, Layout
from mcpops.lab.packages import find_program

SPEC = DATA / "images.toml"
SITE = "/opt/app"
_FORMAT = 1  # counts changes of what this module makes of the same inputs
_TIMEOUT_S = 600
_UNWANTED = ("man", "doc", "locale", "info")


@dataclass(frozen=True)
class Images:
    """Built images: the layout that holds them, and tag -> digest."""

    layout: Path
    digests: dict[str, str]
    port: int

    @property
    def command(self) -> tuple[str, ...]:
        """What runs in them; `{address}` and `{port}` are the release manifest's placeholders."""
        return ("python3", "-m", "mcp_proxy", "--host", "{address}", "--port", "{port}", "--pass-environment", "--",
                "python3", "-m", "mcp_server_time")  # fmt: skip


def images(cache: Path, *, lab: str, say: Callable[[str], None], spec: Path = SPEC) -> Images:
    """Return the images that `spec` describes: built (some 20 s) if the cache lacks them.

    It works in the cgroups of `lab`, like the base's build. Raises Failed when a package cannot be had, Busy when
    another build does not end.
    """
    conf = tomllib.loads(spec.read_text())
    lock = (spec.parent / conf["lock"]).read_text()
    inputs = json.dumps([_FORMAT, conf, lock, apt_sources(conf["suite"]), _can_compile(conf["python"])])
    place = cache / f"images-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"
    with locked(cache / "lock", what="the lab's cache", timeout_s=2 * _TIMEOUT_S):
        if not (place / "digests.json").exists():
            say("lab: building the images (once; half a minute)")
            with tempfile.TemporaryDirectory(prefix="part-images-", dir=cache) as part:
                layout = Path(part) / "layout"
                digests = _build(layout, Path(part), conf, lock, lab)
                (layout / "digests.json").write_text(json.dumps(digests))
                shutil.rmtree(place, ignore_errors=True)
                layout.rename(place)
    return Images(place, json.loads((place / "digests.json").read_text()), conf["port"])


def _build(target: Path, work: Path, conf: dict[str, Any], lock: str, lab: str) -> dict[str, str]:
    layout = Layout(target)
    debian = work / "debian.tar"
    _debian(debian, conf, lab)
    with debian.open("rb") as tar:
        below = [layout.add_layer(tar)]
    below.append(layout.add_tree(_site(work / "common", lock, conf["python"], lab), SITE))
    digests = {}
    for tag, requirement in conf["servers"].items():
        top = layout.add_tree(_site(work / tag, requirement, conf["python"], lab), SITE)
        digests[tag] = layout.add_image(tag, [*below, top], _config(tag, conf))
    return digests


def _debian(target: Path, conf: dict[str, Any], lab: str) -> None:
    """Unpack Debian packages, none of their scripts run, and compile the standard library."""
    unwanted = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNWANTED]
    compile_hook = '--customize-hook=chroot "$1" python3 -m compileall -qq --invalidation-mode unchecked-hash /usr/lib'
    _run(
        ["mmdebstrap", "--quiet", "--variant=extract", "--mode=root", *unwanted, compile_hook,
         f"--include={','.join(conf['packages'])}", conf["suite"], str(target), "-"],
        "the Debian layer of the images", lab, stdin=apt_sources(conf["suite"]),
    )  # fmt: skip


def _site(target: Path, requirements: str, python: str, lab: str) -> Path:
    """Install requirements for the image's Python into a directory, compiled.

    uv and not pip: with --python-version, pip still takes markers from the builder's Python, and leaves out what
    3.11.2 needs beside 3.11.7 (async-timeout).
    """
    source = target.with_suffix(".txt")
    source.write_text(requirements + "\n")
    _run(
        [find_program("uv", "pip install 'mcpops[embedded]'"), "pip", "install", "--quiet", "--no-deps",
         "--require-hashes", "--only-binary", ":all:", "--python-version", python,
         "--python-platform", "x86_64-manylinux_2_36", "--link-mode", "copy",
         "--target", str(target), "--requirement", str(source)],
        "the Python packages of the images", lab,
    )  # fmt: skip
    shutil.rmtree(target / "bin", ignore_errors=True)  # scripts that name this machine's Python
    if _can_compile(python):
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(target, quiet=2, stripdir=str(target), prependdir=SITE, invalidation_mode=mode)
    return target


def _can_compile(python: str) -> bool:
    """Tell whether this Python's bytecode is the image's: one format for a minor version."""
    return f"{sys.version_info.major}.{sys.version_info.minor}" == python.rpartition(".")[0]


def _config(tag: str, conf: dict[str, Any]) -> dict[str, Any]:
    return {
        "User": conf["user"],
        "Env": ["PATH=/usr/bin:/bin", f"PYTHONPATH={SITE}", "PYTHONUNBUFFERED=1"],
        "ExposedPorts": {f"{conf['port']}/tcp": {}},
        "Cmd": [
            word.format(address="0.0.0.0", port=conf["port"])  # noqa: S104 - inside the container
            for word in Images(Path(), {}, conf["port"]).command
        ],
        "Labels": {"org.opencontainers.image.version": tag},
    }


def _run(argv: list[str], what: str, lab: str, stdin: str = "") -> None:
    done = subprocess.run(
        cgroups.inside(lab, argv), input=stdin, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH_S)},
    )  # fmt: skip
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-12:])
        raise Failed(f"{what} could not be built", detail=tail, hint="are the package registries reachable?")
