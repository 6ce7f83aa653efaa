"""Ansible's own connection plugins, as classes to extend."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def builtin(name: str) -> Any:  # noqa: ANN401 - a module
    """Return Ansible's own connection plugin as a module of another name: ours may take its name when it is loaded."""
    from ansible.plugins import connection  # noqa: PLC0415 - 0.2 s, and only plugins call this

    path = Path(connection.__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"mcpops_builtin_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
