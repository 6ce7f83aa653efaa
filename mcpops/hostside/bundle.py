"""Build the host-side program: one zip file that Python runs, the same bytes from the same sources."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

# The oldest time a zip entry can carry: file times must not change the bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
ENTRY = b"import sys\n\nfrom mcpops.hostside.main import main\n\nsys.exit(main())\n"


def content() -> bytes:
    """Return the bytes of the program."""
    here = Path(__file__).parent
    files = {"__main__.py": ENTRY, "mcpops/__init__.py": b""}
    # This module builds the program and has nothing to do inside it.
    sources = [path for path in here.glob("*.py") if path.name != "bundle.py"]
    files.update({f"mcpops/hostside/{path.name}": path.read_bytes() for path in sources})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # Unix, whatever the builder runs on
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def build(target: Path) -> str:
    """Write the program to `target` (atomically, mode 0644) and return its SHA-256 in hex.

    A target that already has these bytes is left alone.
    """
    data = content()
    if not target.exists() or target.read_bytes() != data:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(data)
            temporary.chmod(0o644)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return hashlib.sha256(data).hexdigest()
