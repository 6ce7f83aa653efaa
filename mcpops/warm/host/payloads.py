"""What a warm server keeps between modules: zips in anonymous memory, compiled sources, Ansible's own imports.

Sent to hosts: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import importlib.util
import os
import sys
import zipfile
import zipimport
from contextlib import suppress
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, cast

# What every module imports: Ansible's AnsiballZ wrapper asks for the second, which imports the first.
_SHARED = ("ansible.module_utils.basic", "ansible.module_utils._internal._ansiballz._loader")

Codes = dict[bytes, CodeType]
"""Digest of a source's name and text -> what it compiles to."""


class Payload:
    """The zip of one module, in anonymous memory, with its sources compiled."""

    def __init__(self, data: bytes, codes: Codes, sitecustomize: str) -> None:
        self.handle = os.memfd_create("ansible", os.MFD_CLOEXEC)
        # By the number of this process: a child that Ansible's `respawn` starts opens it too.
        self.path = f"/proc/{os.getpid()}/fd/{self.handle}"
        self.digests: dict[str, bytes] = {}  # of each source, by its name in the zip
        self.modules: dict[str, tuple[str, bool]] = {}  # dotted name -> name in the zip, whether it is a package
        with open(self.handle, "wb", closefd=False) as file:
            file.write(data)
        with zipfile.ZipFile(self.path, "a") as archive:
            for name in archive.namelist():
                if name.endswith(".py"):
                    self._add(name, archive.read(name), codes)
            # Ansible's wrapper adds it, for children that get this zip as PYTHONPATH.
            archive.writestr("sitecustomize.py", (sitecustomize % self.path).encode())
        self.importer = _Importer(self, codes)

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.handle)

    def _add(self, name: str, source: bytes, codes: Codes) -> None:
        package = name.endswith("/__init__.py")
        self.digests[name] = digest = hashlib.sha256(name.encode() + b"\0" + source).digest()
        self.modules[name[: -12 if package else -3].replace("/", ".")] = name, package
        if digest not in codes:
            # What does not compile is left to Python's own importer of zip files: it says so where it is imported.
            with suppress(SyntaxError, ValueError):
                codes[digest] = compile(source, f"{self.path}/{name}", "exec", dont_inherit=True)


class _Importer(zipimport.zipimporter):
    """The importer of zip files, with code that was compiled before."""

    def __init__(self, payload: Payload, codes: Codes) -> None:
        super().__init__(payload.path)
        self._payload, self._codes = payload, codes

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """Return where a module of this payload is; the rest is what finders of sys.meta_path are given, too."""
        name, package = self._payload.modules.get(fullname, ("", False))
        if self._payload.digests.get(name) not in self._codes:
            return None
        origin = f"{self._payload.path}/{name}"
        spec = ModuleSpec(fullname, cast(Any, self), origin=origin, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [origin[: -len("/__init__.py")]]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Have Python make the module object."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code in it."""
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - what an importer does

    def get_code(self, fullname: str) -> CodeType:
        """Return what a module compiled to."""
        return self._codes[self._payload.digests[self._name(fullname)]]

    def get_filename(self, fullname: str) -> str:
        """Return the path of a module inside of the zip."""
        return f"{self._payload.path}/{self._name(fullname)}"

    def is_package(self, fullname: str) -> bool:
        """Whether a module is a package."""
        return self._name(fullname).endswith("/__init__.py")

    def get_source(self, fullname: str) -> str:
        """Return a module's text."""
        with zipfile.ZipFile(self._payload.path) as archive:
            return archive.read(self._name(fullname)).decode()

    def _name(self, fullname: str) -> str:
        """Return a module's name in the zip; ImportError is what Python expects of an importer, as for `__main__`."""
        if fullname not in self._payload.modules:
            raise ImportError(f"no {fullname} in this payload", name=fullname)
        return self._payload.modules[fullname][0]


class Warmth:
    """Payloads by their digest, and what all of them import, imported."""

    def __init__(self) -> None:
        self.payloads: dict[str, Payload] = {}
        self._codes: Codes = {}
        self._files: dict[str, bytes] = {}  # the digests of what is imported
        self._names: list[str] = []  # what is imported and has a file in a payload
        self._all: list[str] = []

    def keep(self, digest: str, data: bytes, sitecustomize: str) -> None:
        """Keep a payload; raises ImportError when what every module needs cannot be imported here."""
        payload = Payload(data, self._codes, sitecustomize)
        try:
            if not self.payloads:
                self._import(payload)
        except ImportError:
            payload.close()
            raise
        self.payloads[digest] = payload

    def _import(self, payload: Payload) -> None:
        before = set(sys.modules)
        sys.meta_path.insert(0, payload.importer)
        try:
            for name in _SHARED:
                importlib.import_module(name)
        except BaseException as error:
            for name in set(sys.modules) - before:
                sys.modules.pop(name, None)
            raise ImportError(f"{type(error).__name__}: {error}") from error
        finally:
            sys.meta_path.remove(payload.importer)
        self._all = [name for name in sys.modules if name == "ansible" or name.startswith("ansible.")]
        self._names = [name for name in self._all if name in payload.modules]  # six makes up some that have no file
        files = [payload.modules[name][0] for name in self._names]
        self._files = {file: payload.digests[file] for file in files}
        gc.collect()
        gc.freeze()  # children share these pages

    def enter(self, payload: Payload) -> None:
        """Make a child's imports those of its payload: the shared ones where all sources are equal, else none."""
        importer: Any = payload.importer
        sys.meta_path.insert(0, importer)
        if any(payload.digests.get(file) != digest for file, digest in self._files.items()):
            for name in self._all:
                sys.modules.pop(name, None)
            return
        for name in self._names:
            module = sys.modules[name]
            spec = importer.find_spec(name)
            module.__spec__, module.__loader__, module.__file__ = spec, importer, spec.origin
            if spec.submodule_search_locations is not None:
                module.__path__ = spec.submodule_search_locations
