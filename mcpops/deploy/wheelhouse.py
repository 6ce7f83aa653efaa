"""Fill a wheelhouse: every wheel that the lock files of the releases name, so that staging needs no network.

    python -m mcpops.deploy.wheelhouse [--to wheelhouse] [releases/*.lock ...]

The downloads are pip's (`--require-hashes`, wheels only), so proxies, mirrors and credentials of the user's pip
configuration hold. A lock file whose wheels are all there already costs no network.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from mcpops.core.errors import Failed, McpopsError, UsageError
from mcpops.core.files import write_atomic

DOWNLOAD_TIMEOUT_S = 600


def fill(locks: Sequence[Path], target: Path) -> list[Path]:
    """Download what is missing of `locks` into `target`; return the lock files that needed a download.

    A stamp for each lock file and kind of Python (`.<sha256 of the lock>.<kind>.ok`) is written after its download,
    so that a repeat is instant, and another Python gets wheels of its own. Raises UsageError for a lock file that is
    not there, Failed when pip fails.
    """
    done = []
    for lock in locks:
        try:
            text = lock.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"the lock file {lock} cannot be read", detail=str(error)) from error
        stamp = target / f".{hashlib.sha256(text.encode()).hexdigest()}.{kind_of_python()}.ok"
        if stamp.exists() and not _missing(text, target):
            continue
        target.mkdir(parents=True, exist_ok=True)
        _download(lock, target)
        write_atomic(stamp, f"{lock.name}\n", mode=0o644)
        done.append(lock)
    return done


def kind_of_python() -> str:
    """Return what decides which wheels pip takes for this Python, such as `cpython-311-linux-x86_64`."""
    return f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"


def _missing(text: str, target: Path) -> set[tuple[str, str]]:
    """Return what a lock file names without a wheel in `target`; lines with a marker may rightly have none."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^;\s\\]+)[ \t]*\\?$", text, re.MULTILINE)
    wheels = [path.name.split("-") for path in target.glob("*.whl")]
    return {(_normal(name), version) for name, version in lines} - {(_normal(name), rest[0]) for name, *rest in wheels}


def _normal(name: str) -> str:
    """Return a distribution name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _download(lock: Path, target: Path) -> None:
    """Let pip download one lock file."""
    words = ["download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--no-deps"]
    argv = [sys.executable, "-m", "pip", *words, "--require-hashes", "-r", str(lock), "-d", str(target)]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
    if result.returncode != 0:
        said = "\n".join(result.stderr.strip().splitlines()[-8:])
        hint = "does `python -m pip download mcp-proxy` work here? (network, proxy, index of the pip configuration)"
        raise Failed(f"the wheels of {lock.name} could not be downloaded", detail=said, hint=hint)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mcpops.deploy.wheelhouse", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("locks", nargs="*", type=Path, help="lock files; all of releases/ when none is given")
    parser.add_argument("--to", type=Path, default=Path("wheelhouse"), help="directory of the wheels")
    args = parser.parse_args(argv)
    try:
        locks = args.locks or sorted(Path("releases").glob("*.lock"))
        if not locks:
            raise UsageError("no lock file given, and none in releases/", hint="run it in the project directory")
        done = fill(locks, args.to)
    except McpopsError as error:
        sys.stderr.write(f"mcpops: error: {error.message}\n{error.detail}\nmcpops: hint: {error.hint}\n")
        return int(error.code)
    count = len(list(args.to.glob("*.whl")))
    sys.stdout.write(f"{args.to}: {count} wheels, {len(done)} of {len(locks)} lock files downloaded\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
