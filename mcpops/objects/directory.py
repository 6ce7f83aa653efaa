"""Objects as files below a directory: a mounted share, or an append-only file system (`chattr +a`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mcpops.core.files import write_new
from mcpops.objects.store import Exists, Unreachable


class Directory:
    """An object store in a directory; it is made when there is none."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.name = str(root)

    def put_new(self, name: str, data: bytes) -> None:
        """Write an object that is not there yet: whole or not at all, and never over another one."""
        path = self._root / name
        try:
            write_new(path, data)
        except FileExistsError as error:
            if self.get(name) != data:
                raise Exists(name) from error
        except OSError as error:
            raise self._unreachable(error) from error

    def get(self, name: str) -> bytes:
        """Return the content of an object."""
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError as error:
            raise KeyError(name) from error
        except OSError as error:
            raise self._unreachable(error) from error

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names that begin with `prefix`, sorted."""
        try:
            found = [path for path in self._root.rglob("*") if path.is_file() and not path.name.startswith(".")]
        except OSError as error:
            raise self._unreachable(error) from error
        names = (str(path.relative_to(self._root)) for path in found)
        yield from sorted(name for name in names if name.startswith(prefix))

    def _unreachable(self, error: OSError) -> Unreachable:
        return Unreachable(f"the store {self.name} cannot be used", detail=str(error), hint="see who may write there")
