"""A small Ansible in a directory: what it would pack, and runs of it that use the cache. No process, no network."""

from __future__ import annotations

import base64
import io
import os
import pickle
import re
import time
import zipfile
from pathlib import Path

from ansible.executor.module_common import ModuleMetadataV1, _CachedModule

from mcpops.warm.payloads.cache import PayloadCache
from mcpops.warm.payloads.inputs import World
from mcpops.warm.payloads.search import Directories
from mcpops.warm.payloads.sources import SETTLED_NS, Sources
from mcpops.warm.payloads.store import Store

PACKAGE = "from pkgutil import extend_path\n__path__=extend_path(__path__,__name__)\n"
PING, GREET, SAY = "ansible.modules.ping", "ansible.legacy.greet", "ansible_collections.demo.words.plugins.modules.say"
ALL = (PING, GREET, SAY)


def later_ns() -> int:
    """Just so much ahead that what was written until now counts as settled."""
    return time.time_ns() + SETTLED_NS


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class SmallAnsible:
    """Implements `Search`. Packs every module_utils file it has, as a module would that imports them all."""

    version = "2.19.14"
    author = "nobody"
    python = "3.11"

    def __init__(self, root: Path) -> None:
        self.root = root
        package = root / "site" / "ansible"
        self.core = str(package)
        self.makers = (str(package / "maker.py"),)
        self.library = [root / "library"]
        self.utils = [root / "module_utils"]
        self.collection_paths = [root / "collections"]
        write(package / "maker.py", "maker = 1\n")
        write(package / "module_utils" / "__init__.py", "")
        write(package / "module_utils" / "basic.py", "basic = 1\n")
        write(package / "module_utils" / "common" / "__init__.py", "")
        write(package / "module_utils" / "common" / "text.py", "text = 1\n")
        write(package / "modules" / "ping.py", "from ansible.module_utils.basic import basic\n")
        write(root / "library" / "greet.py", "greet = 1\n")
        words = root / "collections" / "ansible_collections" / "demo" / "words"
        write(words / "plugins" / "modules" / "say.py", "from ..module_utils.voice.loud import loud\n")
        write(words / "plugins" / "module_utils" / "voice" / "loud.py", "loud = 1\n")

    def settings(self) -> str:
        return self.python

    def directories(self) -> Directories:
        return Directories(tuple(map(str, self.library)), tuple(map(str, self.utils)))

    def places(self, collection: str) -> tuple[str | None, list[str]]:
        places = [str(path.joinpath("ansible_collections", *collection.split("."))) for path in self.collection_paths]
        return next(filter(os.path.isdir, places), None), places

    def full_name(self, path: str) -> str:
        match = re.search(r"/(ansible_collections/.*)\.py$", path)
        return match[1].replace("/", ".") if match else f"ansible.legacy.{Path(path).stem}"

    def ignored(self, path: str) -> bool:
        return path.endswith((".pyc", ".md"))

    def source(self, module: str) -> Path:
        name = module.rpartition(".")[2]
        if module.startswith("ansible.legacy."):
            return next(path / f"{name}.py" for path in self.library if (path / f"{name}.py").exists())
        if module.startswith("ansible.modules."):
            return Path(self.core) / "modules" / f"{name}.py"
        root, _ = self.places(".".join(module.split(".")[1:3]))
        return Path(str(root), "plugins", "modules", f"{name}.py")

    def members(self, module: str) -> dict[str, str]:
        release = f'__version__="{self.version}"\n__author__="{self.author}"\n'
        members = {"ansible/__init__.py": PACKAGE + release, "ansible/module_utils/__init__.py": PACKAGE}
        for root in [*self.utils, Path(self.core) / "module_utils"]:
            for path in sorted(root.rglob("*.py")):
                members.setdefault(f"ansible/module_utils/{path.relative_to(root)}", path.read_text())
        parts = module.split(".")
        if parts[0] == "ansible_collections":
            root = Path(str(self.places(f"{parts[1]}.{parts[2]}")[0]))
            for path in sorted((root / "plugins" / "module_utils").rglob("*.py")):
                members[f"{'/'.join(parts[:3])}/{path.relative_to(root)}"] = path.read_text()
                for package in path.relative_to(root).parents:
                    members.setdefault(f"{'/'.join(parts[:3])}/{package}/__init__.py".replace("/./", "/"), "")
        members[f"{module.replace('.', '/')}.py"] = self.source(module).read_text()
        for depth in range(1 if parts[0] == "ansible_collections" else 2, len(parts)):
            members.setdefault(f"{'/'.join(parts[:depth])}/__init__.py", "")
        return members

    def world(self) -> World:
        return World(self, Sources(later_ns))


def packed(members: dict[str, str], **more: object) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in members.items():
            archive.writestr(path, text)
    values = {"metadata": ModuleMetadataV1(serialization_profile="legacy"), "source_mapping": {}} | more
    return pickle.dumps(_CachedModule(zip_data=base64.b64encode(buffer.getvalue()), **values))


class Run:
    """One run: its own directory for payloads, the cache's directory for all runs."""

    def __init__(self, ansible: SmallAnsible, kept: Path, wanted: frozenset[str] | None = None) -> None:
        self.ansible = ansible
        self.directory = ansible.root / f"run-{time.monotonic_ns()}" / "ansiballz_cache"
        self.store = Store.open(kept, os.geteuid())
        self.cache = PayloadCache(self.store, self.directory, time.time, ansible.world, lambda *_: wanted)

    def begin(self, strategy: str = "linear", collections: tuple[str, ...] = ()) -> set[str]:
        """Begin a play and its first task; return the modules that were given."""
        self.cache.begin_play(strategy)
        self.cache.begin_task("any", collections)
        return self.has()

    def has(self) -> set[str]:
        if not self.directory.exists():
            return set()
        return {path.name.partition("-")[0] for path in self.directory.iterdir()}

    def build(self, *modules: str, suffix: str = "-ZIP_DEFLATED-none") -> None:
        """Do as a worker that needs these modules."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for module in modules:
            path = self.directory / f"{module}{suffix}"
            if not path.exists():
                path.write_bytes(packed(self.ansible.members(module)))

    def whole(self, *modules: str) -> set[str]:
        """Do a whole run; return what was given to it."""
        given = self.begin()
        self.build(*modules)
        self.cache.keep()
        self.store.close()
        return given
