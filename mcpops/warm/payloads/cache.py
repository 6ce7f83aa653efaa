"""The payload cache of one run of Ansible: what it is given of earlier runs, and what later ones get of it.

ansible-core keeps the zip of a module and its module_utils for one run, as a pickle in a directory of that run. Here
the ones whose inputs are certainly the same are put there before a worker looks, and new ones are kept after each play.

The world may change meanwhile: a role that comes by include_role adds directories, a task edits a file. So it is looked
at before each task (1 ms), and what does not hold any more is taken back. Nobody reads at that moment: with the
strategies of LOCKSTEP no worker is there when a task begins. With others nothing is given.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import pickle
import re
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from ansible.executor.module_common import ModuleMetadataV1, _CachedModule

from mcpops.warm.payloads import demand
from mcpops.warm.payloads.inputs import World
from mcpops.warm.payloads.search import LEGACY
from mcpops.warm.payloads.sources import Uncertain
from mcpops.warm.payloads.store import Damaged, Entry, Store, Unsafe

LOCKSTEP = frozenset({"linear", "debug", "ansible.builtin.linear", "ansible.builtin.debug"})
_OWN_COLLECTIONS = frozenset({"ansible.builtin", "ansible.legacy"})
# What Ansible calls a payload: module, compression, extensions (debuggers and coverage: those are not kept).
_NAME = re.compile(r"(?P<module>[A-Za-z_][\w.]*)-ZIP_(?:STORED|DEFLATED|BZIP2|LZMA)-none")
_PICKLED = {("ansible.executor.module_common", kind.__name__): kind for kind in (_CachedModule, ModuleMetadataV1)}


def default_directory(environment: dict[str, str]) -> Path:
    """Return where payloads are kept if nobody says."""
    base = environment.get("XDG_CACHE_HOME", "")  # a relative path is to be ignored, says the standard
    return (Path(base) if base.startswith("/") else Path("~/.cache").expanduser()) / "mcpops" / "payloads"


class Counts:
    """What the cache did; `refused` and `passed_over`: why something is not used, or not kept."""

    def __init__(self) -> None:
        self.given = 0
        self.taken_back = 0
        self.kept = 0
        self.refused: list[str] = []
        self.passed_over: list[str] = []


class PayloadCache:
    """The cache in the main process of one run; `directory` is where Ansible has the run's payloads.

    All methods raise OSError and Uncertain: then nothing is certain, and `withdraw` is the way out. They are called
    while no worker is there, but for `begin_task` in a play whose strategy is not in LOCKSTEP: that does nothing.
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        now_s: Callable[[], float],
        look: Callable[[], World] = World,
        wanted: Callable[[str, Collection[str]], frozenset[str] | None] = demand.wanted,
    ) -> None:
        self._store = store
        self._directory = directory
        self._now_s = now_s
        self._look = look
        self._wanted = wanted
        self._world = look()
        self._lockstep = False
        self._ready: list[Entry] = []  # may be given when a task wants them, and they hold
        self._given: dict[str, Entry] = {}
        # Built when the world was changing, or not certain, or kept already: never (again) to be kept.
        self._judged = self._present()
        self.counts = Counts()

    def begin_play(self, strategy: str) -> None:
        """Keep what the play before built, and see what may be given."""
        self.keep()
        self._refresh()
        self._lockstep = strategy in LOCKSTEP
        if not self._lockstep:
            self.withdraw()
        known = {entry.stem() for entry in self._given.values()}
        self._ready = [entry for entry in self._entries() if entry.stem() not in known]

    def begin_task(self, action: str, collections: Collection[str]) -> None:
        """Take back what does not hold any more, and give what the task may need.

        `collections`: in which ones it looks for plain names. A Python module without .py in one of them would have
        the name of one from a library directory.
        """
        if not self._lockstep:
            return
        self._refresh()
        foreign = not _OWN_COLLECTIONS.issuperset(collections)
        if foreign:
            self._take_back([name for name in self._given if name.startswith(LEGACY)])
        if not self._ready:
            return
        wanted = self._wanted(action, collections)
        found = [entry for entry in self._ready if wanted is None or _last_name(entry) in wanted]
        present = self._present() if found else set()
        for entry in found:
            plain = foreign and entry.name.startswith(LEGACY)
            if entry.name not in present and not plain and self._holds(entry):
                self._give(entry)
                present.add(entry.name)

    def keep(self) -> None:
        """Keep what was built since the last look, if nothing changed meanwhile and the play was in lockstep."""
        if self._lockstep:
            self._refresh()
            for name in self._built():
                if not any(entry.name == name and self._holds(entry) for entry in self._ready):
                    self._keep(name)
        self._judged.update(self._built())

    def withdraw(self) -> None:
        """Take back all that was given. No worker may be there."""
        self._take_back(list(self._given))

    def _refresh(self) -> None:
        """Look at the world, and if it changed take back what does not hold."""
        if self._world.unchanged():
            return
        # Who can say whether these were built before the change, or after it?
        self._judged.update(self._built())
        self._world = self._look()
        self._take_back([name for name, entry in self._given.items() if not self._holds(entry)])

    def _entries(self) -> Iterator[Entry]:
        """Yield what may hold, from the manifests."""
        for manifest in self._store.manifests(self._world.key):
            try:
                entry = self._store.entry(manifest)
                if _NAME.fullmatch(entry.name):
                    yield entry
            except (Unsafe, Damaged) as error:
                self.counts.refused.append(str(error))
            except FileNotFoundError:  # another run pruned it just now
                continue

    def _give(self, entry: Entry) -> None:
        self._ready.remove(entry)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._store.give(entry, self._directory / entry.name, self._now_s())
        except FileNotFoundError:
            return  # another run pruned it just now
        except (Unsafe, Damaged) as error:
            self.counts.refused.append(str(error))
            return
        self._given[entry.name] = entry
        self.counts.given += 1

    def _keep(self, name: str) -> None:
        try:
            self._store.write(*self._entry(name))
            self.counts.kept += 1
        except Uncertain as reason:
            self.counts.passed_over.append(f"{name}: {reason}")

    def _take_back(self, names: list[str]) -> None:
        for name in names:
            (self._directory / name).unlink(missing_ok=True)
            del self._given[name]
            self.counts.taken_back += 1

    def _holds(self, entry: Entry) -> bool:
        """Whether a build would give the same payload now."""
        match = _NAME.fullmatch(entry.name)
        if match is None or entry.key != self._world.key:
            return False
        try:
            inputs = self._world.inputs(match["module"], entry.collections)
        except Uncertain:
            return False
        return inputs == (entry.module_sha256, entry.collections)

    def _built(self) -> list[str]:
        """Return what workers built in this run and nobody judged yet."""
        known = self._given.keys() | self._judged
        return sorted(name for name in self._present() if name not in known and not name.endswith((".lock", "-part")))

    def _present(self) -> set[str]:
        try:
            return {path.name for path in self._directory.iterdir()}
        except FileNotFoundError:
            return set()

    def _entry(self, name: str) -> tuple[Entry, bytes]:
        """Return a payload of this run with its manifest; raises Uncertain if it is not what a build would give."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise Uncertain("a debugger or coverage is in it, or its compression is unknown")
        payload = (self._directory / name).read_bytes()
        inputs = self._world.inputs_of(match["module"], _members(payload))
        digest = hashlib.sha256(payload).hexdigest()
        return Entry(self._world.key, name, inputs.module_sha256, inputs.collections, digest), payload


def _last_name(entry: Entry) -> str:
    """Return the last part of a module's name."""
    return entry.name.partition("-")[0].rpartition(".")[2]


class _Unpickler(pickle.Unpickler):
    """Reads what `_CachedModule.dump` wrote, and nothing else."""

    def find_class(self, module: str, name: str) -> type:
        """Return one of the two classes of a payload."""
        kind: type | None = _PICKLED.get((module, name))
        if kind is None:
            raise Uncertain(f"{module}.{name} is in it")
        return kind


def _members(payload: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a payload's zip, by path and content; raises Uncertain for a payload of an unknown shape."""
    try:
        cached = _Unpickler(io.BytesIO(payload)).load()
        data = base64.b64decode(cached.zip_data, validate=True)
        if cached.source_mapping or cached.metadata != ModuleMetadataV1(serialization_profile="legacy"):
            raise Uncertain("it has metadata that are not known")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                yield member.filename, archive.read(member)
    except (pickle.UnpicklingError, EOFError, AttributeError, TypeError, binascii.Error, zipfile.BadZipFile) as error:
        raise Uncertain(f"it is no payload: {error}") from error
