"""What Ansible builds payloads from in this run: all that can change one, by content.

A payload is a function of four things, and `executor/module_common.py` of ansible-core knows no other:

- what all have in common (`World.key`): Python, ansible-core, its `module_utils`, and every file of the directories in
  which a `module_utils` file would shadow one of those;
- the module's source: one file, or several of the same content, that this run could take for the name;
- of each collection that the sources name, its `module_utils` and `meta/runtime.yml` (a collection that is not there
  counts too: an optional import finds it tomorrow);
- how it is compressed, which stands in the payload's name.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ansible.module_utils.common.yaml import yaml_load

from mcpops.warm.payloads.search import LEGACY, AnsibleSearch, Search
from mcpops.warm.payloads.sources import SETTLED_NS, Sources, Tree, Uncertain

_PACKAGE = b"from pkgutil import extend_path\n__path__=extend_path(__path__,__name__)\n"
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_UTILS = "ansible/module_utils/"
_OF_COLLECTION = re.compile(r"ansible_collections/(\w+)/(\w+)/(.*)")
# Packages down to module_utils are always written empty, also where the collection has a file.
_UTIL = re.compile(r"ansible_collections/(\w+)/(\w+)/plugins/module_utils/(?!__init__\.py)(.*)")
_PARENT = re.compile(r"ansible_collections/(?:\w+/(?:\w+/(?:plugins/(?:module_utils/)?)?)?)?")
_NAMED = re.compile(rb"ansible_collections(?:\s|\\)*\.(?:\s|\\)*(\w+)(?:\s|\\)*\.(?:\s|\\)*(\w+)")
_RELATIVE = re.compile(rb"from[\s\\]*(\.[\s\\.]*)")


class Inputs(NamedTuple):
    """The inputs of one payload beyond the key: digests of the module and of the collections its sources name."""

    module_sha256: str
    collections: Mapping[str, str | None]


class _Collection(NamedTuple):
    """A collection of this run; `root` is None where there is none of that name."""

    root: str | None
    utils: Tree
    routing_sha256: str
    warned: frozenset[str]
    newest_ns: int

    def digest(self) -> str | None:
        """Return a digest of what payloads can have of it."""
        if self.root is None:
            return None
        return hashlib.sha256(f"{self.utils.digest()} {self.routing_sha256}".encode()).hexdigest()


class World:
    """One reading of what this run would build payloads from. Raises Uncertain where that cannot be told."""

    def __init__(self, search: Search | None = None, sources: Sources | None = None) -> None:
        self._search = search or AnsibleSearch()
        self._sources = sources or Sources()
        self._directories = self._search.directories()
        self._collections: dict[str, _Collection] = {}
        above = [self._sources.tree(path) for path in self._directories.utils]
        core = self._sources.tree(os.path.join(self._search.core, "module_utils"))
        self._utils = [*(tree for tree in above if tree.files), core]
        self._modules = self._library()
        # What recursive_finder writes without reading a file.
        release = f'__version__="{self._search.version}"\n__author__="{self._search.author}"\n'
        self._written = {"ansible/__init__.py": _PACKAGE + release.encode(), f"{_UTILS}__init__.py": _PACKAGE}
        makers = [str(self._sources.digest(path)) for path in self._search.makers]
        parts = [self._search.settings(), release, *makers, *(tree.digest() for tree in self._utils)]
        self.key = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def unchanged(self) -> bool:
        """Whether everything that was read so far is certainly still so, and still all that there is to read."""
        try:
            same_places = all(self._search.places(name)[0] == c.root for name, c in self._collections.items())
            return same_places and self._search.directories() == self._directories and self._sources.unchanged()
        except Uncertain:
            return False

    def inputs(self, module: str, collections: Iterable[str]) -> Inputs:
        """Return the inputs of a module's payload as a build would find them now."""
        return Inputs(self._module(module), {name: self._collection(name).digest() for name in sorted(collections)})

    def inputs_of(self, module: str, members: Iterable[tuple[str, bytes]]) -> Inputs:
        """Return the inputs of a payload that was built since this reading, from its members (path and content).

        Raises Uncertain unless each is what a build would have taken all the time since.
        """
        own, seen = f"{module.replace('.', '/')}.py", False
        named: set[str] = set()
        for path, content in members:
            digest = hashlib.sha256(content).hexdigest()
            named |= _named_in(path, content)
            seen |= path == own
            if digest != (self._module(module) if path == own else self._expected(path, own)):
                raise Uncertain(f"{path} is not what stands in its place")
        if not seen:
            raise Uncertain("its module is not in it")
        for name in named:
            if self._collection(name).newest_ns > self._sources.began_ns - SETTLED_NS:
                raise Uncertain(f"the collection {name} changed since the play began")
        return self.inputs(module, named)

    def _library(self) -> dict[str, list[str]]:
        """Return all files that Ansible could take for a module beside its own and the collections', by full name."""
        modules: dict[str, list[str]] = {}
        for directory in self._directories.library:
            for name in self._sources.names(directory):
                path = os.path.join(directory, name)
                if not self._search.ignored(path):
                    modules.setdefault(self._search.full_name(path), []).append(path)
        return modules

    def _module(self, module: str) -> str:
        """Return the digest of a module's source."""
        if module.startswith(LEGACY):
            # "ansible.legacy.ping" in a task comes here as ansible.legacy.ansible.legacy.ping.
            name = module.removeprefix(LEGACY).removeprefix(LEGACY)
            paths = [] if "." in name else self._modules.get(LEGACY + name, [])
        else:
            paths = [self._own_place(module), *self._modules.get(module, [])]
        digests = {self._sources.digest(path) for path in paths}
        digest = digests.pop() if len(digests) == 1 else None
        if digest is None:
            raise Uncertain(f"not one source of {module}, but {len(paths)} places")
        return digest

    def _own_place(self, module: str) -> str:
        path = f"{module.replace('.', '/')}.py"
        match = _OF_COLLECTION.fullmatch(path)
        if match is None:
            return os.path.join(os.path.dirname(self._search.core), path)
        root = self._collection(f"{match[1]}.{match[2]}").root
        if root is None:
            raise Uncertain(f"{module} has no collection in this run")
        return os.path.join(root, match[3])

    def _collection(self, name: str) -> _Collection:
        if name not in self._collections:
            self._collections[name] = self._read_collection(name)
        return self._collections[name]

    def _read_collection(self, name: str) -> _Collection:
        root, bases = self._search.places(name)
        places = [*bases, *map(os.path.dirname, bases)]
        utils, routing = Tree({}, 0), b""
        if root is not None:
            meta = os.path.join(root, "meta", "runtime.yml")
            utils = self._sources.tree(os.path.join(root, "plugins", "module_utils"))
            routing = self._sources.content(meta)
            places += [root, os.path.join(root, "plugins"), os.path.dirname(meta), meta]
        for place in places:
            self._sources.directory(place)
        newest_ns = max(utils.newest_ns, *map(self._sources.changed_ns, places))
        return _Collection(root, utils, hashlib.sha256(routing).hexdigest(), _warned(routing), newest_ns)

    def _expected(self, path: str, own: str) -> str | None:
        """Return the digest of what a build puts at a place of the zip, None if there should be nothing."""
        if path in self._written:
            return hashlib.sha256(self._written[path]).hexdigest()
        if path.startswith(_UTILS):
            relative = path.removeprefix(_UTILS)
            return next((tree.files[relative] for tree in self._utils if relative in tree.files), None)
        match = _UTIL.fullmatch(path)
        if match is not None:
            return self._expected_of_collection(f"{match[1]}.{match[2]}", match[3])
        # Packages that are there for the sake of what is in them.
        package = path.removesuffix("__init__.py")
        return _EMPTY_SHA256 if package != path and (own.startswith(package) or _PARENT.fullmatch(package)) else None

    def _expected_of_collection(self, name: str, relative: str) -> str | None:
        collection = self._collection(name)
        if relative.removesuffix(".py").removesuffix("/__init__").replace("/", ".") in collection.warned:
            raise Uncertain(f"{name} warns when {relative} is packed, which a kept payload would not")
        package = relative.removesuffix("__init__.py")
        empty = _EMPTY_SHA256 if package != relative and package in collection.utils.files else None
        return collection.utils.files.get(relative, empty)


def _named_in(path: str, content: bytes) -> set[str]:
    """Return the collections that one source could import from, whether they are there or not."""
    named = {f"{namespace.decode()}.{name.decode()}" for namespace, name in _NAMED.findall(content)}
    own = _OF_COLLECTION.fullmatch(path)
    if own is None:
        return named
    if any(dots.count(b".") > path.count("/") - 2 for dots in _RELATIVE.findall(content)):
        raise Uncertain(f"{path} imports from outside of its collection, which is not named")
    return named | {f"{own[1]}.{own[2]}"}


def _warned(routing: bytes) -> frozenset[str]:
    """Return the module_utils for which a collection has a warning; raises Uncertain for what cannot be read."""
    if b"module_utils" not in routing or b"deprecation" not in routing:
        return frozenset()
    try:
        entries = yaml_load(routing)["plugin_routing"].get("module_utils", {})
        return frozenset(str(name) for name, entry in entries.items() if "deprecation" in entry)
    except Exception as error:
        raise Uncertain(f"meta/runtime.yml: {error}") from error
