"""Seals: the head of the chain, signed with the control node's key each time that a run ends or somebody decides.

The key is Ed25519 (RFC 8032), made on first use beside the journal, mode 0600. Seals are numbered without a gap, and a
row that says it was sealed must have one at or after it, so no seal can be left out. An end that is cut off with its
seals is missed by the machine that sealed it, and by an anchor elsewhere (`anchor.py`). The anchor also finds what
somebody with the key writes anew.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, func, insert, select

from mcpops.core.canonical import canonical
from mcpops.core.errors import UsageError
from mcpops.core.files import write_atomic, write_new
from mcpops.journal import chain
from mcpops.journal.tables import record, seal
from mcpops.journal.trouble import Damaged

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# What is sealed in the transaction that writes it; the row's body says so, and the seal cannot be taken away unseen.
SEALED = "sealed"


class Sealer(Protocol):
    """Who signs heads."""

    @property
    def key(self) -> str:
        """The public key, base64."""

    def sign(self, message: bytes) -> str:
        """Return the signature, base64."""

    def seen(self) -> Mapping[str, Any] | None:
        """Return the last seal that this signer knows to be written: number, n, sha256."""

    def expect(self, row: Mapping[str, Any] | None) -> None:
        """Take a seal that is about to be written; None: it was not."""

    def remember(self) -> None:
        """Keep what was expected, now that it is written."""


class KeyFile:
    """A sealer whose private key lies in a file; made there, 0600, when it is first needed.

    Beside it, `PATH.head` keeps the last seal of this machine, outside of the database: whoever rewrites that, or cuts
    its end off, is found before this machine signs anything more.

    Raises UsageError for a file that holds no such key, OSError. (cryptography takes 40 ms to import, so only those
    who seal or verify wait for it.)
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head = path.with_name(f"{path.name}.head")
        self._mine = threading.local()  # a heartbeat commits beside the driver, and must not keep what that one expects

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

        try:
            key = serialization.load_pem_private_key(_read_or_make(self._path), password=None)
        except (ValueError, TypeError) as error:
            hint = "restore it; with another key `journal verify` must be told the old one (journal_keys)"
            where = str(self._path)
            raise UsageError("the journal's key cannot be read", detail=str(error), hint=hint, where=where) from None
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise UsageError("the journal's key is not Ed25519", hint="move it away", where=str(self._path))
        return key

    @cached_property
    def key(self) -> str:
        """The public key, base64."""
        return base64.b64encode(self._private.public_key().public_bytes_raw()).decode()

    def sign(self, message: bytes) -> str:
        """Return the signature, base64."""
        return base64.b64encode(self._private.sign(message)).decode()

    def seen(self) -> Mapping[str, Any] | None:
        """Return the last seal of this machine. Raises UsageError for a file that says something else."""
        try:
            text = self._head.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            row: Mapping[str, Any] = json.loads(text)
            return {name: row[name] for name in _HEAD}
        except (ValueError, KeyError, TypeError) as error:
            hint = "remove it when `mcpops journal verify` with your anchors passes without it"
            raise UsageError("the journal's last seal cannot be read", hint=hint, where=str(self._head)) from error

    def expect(self, row: Mapping[str, Any] | None) -> None:
        """Take a seal that is about to be written; None: it was not."""
        self._mine.expected = row

    def remember(self) -> None:
        """Keep what was expected, now that it is written."""
        row = getattr(self._mine, "expected", None)
        self._mine.expected = None
        if row:
            # A head that cannot be written is an old one: less is found by it, and nothing is found that is not so.
            with suppress(OSError):
                write_atomic(self._head, json.dumps({name: row[name] for name in _HEAD}))


_HEAD = ("number", "n", "sha256")


def append(
    connection: Connection, sealer: Sealer | None, *, run_id: str, at: str, kind: str, body: Mapping[str, Any]
) -> None:
    """Add a row to the chain, and seal the chain there when there is somebody to sign."""
    sealed = {**body, SEALED: True} if sealer else body
    chain.append(connection, run_id=run_id, at=at, kind=kind, body=sealed)
    if sealer:
        _put(connection, sealer, at)


def _put(connection: Connection, sealer: Sealer, at: str) -> None:
    head = connection.execute(select(record.c.n, record.c.sha256).order_by(record.c.n.desc()).limit(1)).one()
    lost = _lost(connection, sealer.seen())
    if lost:
        raise Damaged(
            f"the record is not what this machine sealed: {lost}",
            hint="`mcpops journal verify` says more; who restored an older journal on purpose removes journal.key.head",
        )
    number = (connection.execute(select(func.max(seal.c.number))).scalar() or 0) + 1
    row = {"number": number, "n": head.n, "sha256": head.sha256, "at": at, "key": sealer.key}
    connection.execute(insert(seal).values(**row, signature=sealer.sign(message(row))))
    sealer.expect(row)


def _lost(connection: Connection, seen: Mapping[str, Any] | None) -> str | None:
    """Return what is missing of a seal that was seen before, or None."""
    if seen is None:
        return None
    number = seen["number"]
    found = connection.execute(select(seal.c.n, seal.c.sha256).where(seal.c.number == number)).first()
    row = connection.execute(select(record.c.sha256).where(record.c.n == seen["n"])).scalar_one_or_none()
    if found is None or (found.n, found.sha256) != (seen["n"], seen["sha256"]) or row != seen["sha256"]:
        return f"seal {number}, which this machine wrote, is missing or another"
    return None


def message(row: Mapping[Any, Any]) -> bytes:
    """Return the bytes that a seal signs."""
    return canonical({"mcpops": "seal", **{name: row[name] for name in ("number", "n", "sha256", "at", "key")}})


def is_signed(row: Mapping[Any, Any]) -> bool:
    """Whether the signature of a seal is that of its key, over what it says."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(row["key"], validate=True))
        public.verify(base64.b64decode(row["signature"], validate=True), message(row))
    except (InvalidSignature, ValueError, KeyError, TypeError):
        return False
    return True


def broken(
    seals: Iterable[Mapping[Any, Any]], digests: Mapping[int, str], trusted: Collection[str], *, first: int = 1
) -> tuple[int, str | None]:
    """Return the last row that is sealed, and what is wrong with seals that begin with number `first`, or None.

    `digests` are those of the rows of the chain by number, `trusted` the keys that may have signed.
    """
    last = 0
    for expected, row in enumerate(seals, first):
        name = f"seal {row['number']}"
        if row["number"] != expected:
            return last, f"seal {expected} is missing"
        if not is_signed(row):
            return last, f"{name} is not what was signed"
        if row["key"] not in trusted:
            return last, f"{name} is by the key {row['key']}, which is none of those that may sign here"
        if digests.get(row["n"]) != row["sha256"]:
            return last, f"{name} is of a row {row['n']} that is not there any more, or was another"
        if row["n"] < last:
            return last, f"{name} is out of order"
        last = row["n"]
    return last, None


def wrong(
    connection: Connection, trusted: Collection[str], seen: Iterable[Mapping[str, Any] | None] = ()
) -> str | None:
    """Return what is wrong with the seals of a journal, naming one, or None.

    `trusted` are the keys that may have signed; `seen` are seals that are known from elsewhere, and must be there.
    """
    digests = {row.n: row.sha256 for row in connection.execute(select(record.c.n, record.c.sha256))}
    seals = connection.execute(select(seal).order_by(seal.c.number)).mappings()
    last, problem = broken(seals, digests, trusted)
    unsealed = select(func.min(record.c.n)).where((record.c.n > last) & record.c.body[SEALED].as_boolean())
    first = None if problem else connection.execute(unsealed).scalar()
    if first is not None:
        problem = f"the seal of row {first} is missing"
    return problem or next(filter(None, (_lost(connection, one) for one in seen)), None)


def _read_or_make(path: Path) -> bytes:
    """Return the key's PEM; of two processes that make one at once, one is kept."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    if path.exists():
        return path.read_bytes()
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        write_new(path, pem)
    except FileExistsError:  # another process was first
        return path.read_bytes()
    return pem
