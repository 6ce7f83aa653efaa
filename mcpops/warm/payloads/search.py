"""Where this run of Ansible looks for what it packs: its own files, directories before them, collections.

Private parts of ansible-core are used, of the versions that the tests ran with (SUPPORTED). Nothing here changes what
Ansible finds later.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple, Protocol

from ansible import constants
from ansible._internal._ansiballz import _builder
from ansible.executor import module_common
from ansible.plugins import loader
from ansible.release import __author__, __version__
from ansible.utils.collection_loader import AnsibleCollectionConfig, _collection_finder

from mcpops.warm.payloads.sources import Uncertain

LEGACY = "ansible.legacy."  # what modules from library directories are called
SUPPORTED = ("2.19.",)


class Directories(NamedTuple):
    """What comes before Ansible's own directories, in order: for modules, and for module_utils."""

    library: tuple[str, ...]
    utils: tuple[str, ...]


class Search(Protocol):
    """What `World` asks. `core`: Ansible's package. `makers`: files that decide how a payload looks."""

    core: str
    version: str
    author: str
    makers: tuple[str, ...]

    def settings(self) -> str:
        """Return what else is in each payload, as a text."""

    def directories(self) -> Directories:
        """Return the directories that the run looks at now; raises Uncertain if that is not known."""

    def places(self, collection: str) -> tuple[str | None, list[str]]:
        """Return where a collection is (None: nowhere) and all places where it is looked for; raises Uncertain."""

    def full_name(self, path: str) -> str:
        """Return what the module in a file is called in a payload."""

    def ignored(self, path: str) -> bool:
        """Whether a file in a library directory is no module."""


class AnsibleSearch:
    """This process's Ansible."""

    def __init__(self) -> None:
        self.core = os.path.dirname(os.path.dirname(module_common.__file__))
        self.version = str(__version__)
        self.author = str(__author__)
        makers = [module.__file__ for module in (module_common, _builder, loader, _collection_finder)]
        # The last one: other names of module_utils in ansible.builtin.
        self.makers = (*makers, os.path.join(self.core, "config", "ansible_builtin_runtime.yml"))

    def settings(self) -> str:
        """Return the version of Python, and whether modules have metadata; raises Uncertain for an unknown Ansible."""
        if not self.version.startswith(SUPPORTED):
            raise Uncertain(f"ansible-core {self.version} is none that this was tested with")
        return f"{sys.version} {constants.config.get_config_value('_MODULE_METADATA')}"

    def directories(self) -> Directories:
        """Return what was configured, and what playbooks and roles added so far."""
        return Directories(
            _before(loader.module_loader, subdirs=True), _before(loader.module_utils_loader, subdirs=False)
        )

    def places(self, collection: str) -> tuple[str | None, list[str]]:
        """Look as an import of the collection would, without one."""
        if collection in ("ansible.builtin", "ansible.legacy"):
            raise Uncertain(f"{collection} is made up by Ansible")
        namespace, name = collection.split(".")
        package = sys.modules.get(f"ansible_collections.{namespace}")
        if package is not None:  # an import looks where its parent was found
            parents = list(package.__path__)
        else:
            top = sys.modules.get("ansible_collections")
            paths = [os.path.join(p, "ansible_collections") for p in AnsibleCollectionConfig.collection_paths]
            parents = [os.path.join(path, namespace) for path in (paths if top is None else top.__path__)]
        places = [os.path.join(parent, name) for parent in parents]
        root = next((place for place in places if os.path.isdir(place)), None)
        loaded = sys.modules.get(f"ansible_collections.{collection}")
        if loaded is not None and list(loaded.__path__) != [root]:
            raise Uncertain(f"{collection} was loaded from elsewhere")
        return root, places

    def full_name(self, path: str) -> str:
        """Ask Ansible, which knows its own modules and those of collections by their path."""
        try:
            return str(module_common._get_ansible_module_fqn(path))
        except ValueError:
            return LEGACY + os.path.splitext(os.path.basename(path))[0]

    def ignored(self, path: str) -> bool:
        """Ask Ansible's configuration."""
        return path.endswith(tuple(constants.MODULE_IGNORE_EXTS))


def _before(which: loader.PluginLoader, *, subdirs: bool) -> tuple[str, ...]:
    known = which._paths
    try:
        return tuple(str(place.path) for place in which._get_paths_with_context(subdirs=subdirs) if not place.internal)
    finally:
        which._paths = known  # who asks after us finds what it would have found without us
