"""Signatures of people: OpenSSH's own (`ssh-keygen -Y`), with the keys they log in with, from a file or an agent.

The format is PROTOCOL.sshsig of OpenSSH; who owns which key is said by a file in the format ALLOWED SIGNERS of
ssh-keygen(1): `ada@example.com ssh-ed25519 AAAA…`, one line a person and key.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from mcpops.core.errors import UsageError

NAMESPACE = "mcpops"  # a signature made for anything else (git, files) is none here
_DEADLINE_S = 120.0  # a person may have to type a passphrase, or touch a token


def sign(key: Path, message: bytes) -> str:
    """Return the armoured signature of `message`; `key` is a private key, or a public one that an agent holds.

    A passphrase is asked for by ssh-keygen itself, at the terminal. Raises UsageError.
    """
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
    done = _run(argv, message)
    if done.returncode or not done.stdout:
        raise UsageError(
            f"the key {key} does not sign",
            detail=done.stderr.decode(errors="replace").strip(),
            hint="name a private key, or the .pub of one that `ssh-add -l` shows",
        )
    return done.stdout.decode()


def signers(message: bytes, signature: str, allowed: Path) -> tuple[str, ...]:
    """Return who signed `message`, by the names that `allowed` gives the key; nobody when it does not verify."""
    with tempfile.NamedTemporaryFile("w", prefix="mcpops-", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        found = _run(["ssh-keygen", "-Y", "find-principals", "-f", str(allowed), "-s", file.name], b"")
        names = found.stdout.decode(errors="replace").split() if found.returncode == 0 else []
        verify = ["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-f", str(allowed), "-s", file.name, "-I"]
        return tuple(name for name in names if _run([*verify, name], message).returncode == 0)


def _run(argv: list[str], message: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(argv, input=message, capture_output=True, timeout=_DEADLINE_S, check=False)
    except FileNotFoundError as error:
        raise UsageError("ssh-keygen is not there", hint="install OpenSSH's client") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"ssh-keygen took more than {_DEADLINE_S:g} s") from error
