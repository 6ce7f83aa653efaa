"""The object store contract, and the store that a project's settings name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from mcpops.core.errors import McpopsError, Unknown


class Exists(Exception):
    """An object of that name is there already, with other content."""


class Unreachable(Unknown):
    """The store gives no answer, or refuses this account."""


class ObjectStore(Protocol):
    """A flat name space of objects that are written once. Names are `/`-separated. All raise Unreachable."""

    name: str  # for messages; no secret in it

    def put_new(self, name: str, data: bytes) -> None:
        """Write an object that is not there yet; the same content again is fine, other content raises Exists."""

    def get(self, name: str) -> bytes:
        """Return the content that was written first. Raises KeyError when there is none."""

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names that begin with `prefix`, sorted."""


def open_store(said: Mapping[str, Any], project: Path) -> ObjectStore:
    """Return the store that settings name: `{directory: PATH}` or `{s3: {bucket, …}}`. Raises McpopsError."""
    if "directory" in said:
        from mcpops.objects.directory import Directory  # noqa: PLC0415

        return Directory(project / Path(said["directory"]).expanduser())
    if "s3" in said:
        from mcpops.objects.s3 import S3  # noqa: PLC0415 - boto3 takes 0.3 s to import

        return S3(**said["s3"])
    msg = f"no kind of store: {sorted(said)}"
    raise McpopsError(msg)
