"""The cache over several runs: given when nothing changed, never given when anything did."""

from __future__ import annotations

import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.executor.module_common import ModuleMetadataV1

from mcpops.warm.payloads.cache import default_directory
from tests.unit.warm.payload_kit import ALL, GREET, PING, SAY, Run, SmallAnsible, packed, write


@pytest.fixture
def ansible(tmp_path: Path) -> SmallAnsible:
    return SmallAnsible(tmp_path)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def test_what_did_not_change_is_given_to_the_next_run(ansible, kept):
    assert Run(ansible, kept).whole(*ALL) == set()
    second = Run(ansible, kept)
    assert second.whole(*ALL) == set(ALL)
    assert (second.cache.counts.given, second.cache.counts.kept) == (3, 0)


def test_a_library_directory_of_another_name_with_the_same_content_is_the_same(ansible, kept):
    """As mcpops has it: each run has a copy of the plugins of its own."""
    Run(ansible, kept).whole(*ALL)
    shutil.move(ansible.root / "library", ansible.root / "copy")
    ansible.library = [ansible.root / "copy"]
    assert Run(ansible, kept).whole() == set(ALL)


def words(ansible: SmallAnsible, path: Path | None = None) -> Path:
    return (path or ansible.root / "collections") / "ansible_collections" / "demo" / "words"


def newer_collection(ansible: SmallAnsible) -> None:
    path = ansible.root / "newer"
    shutil.copytree(ansible.root / "collections", path)
    write(words(ansible, path) / "plugins" / "module_utils" / "voice" / "loud.py", "loud = 2\n")
    ansible.collection_paths.insert(0, path)


def role_with_library(ansible: SmallAnsible) -> None:
    write(ansible.root / "role" / "library" / "greet.py", "greet = 2\n")
    ansible.library.append(ansible.root / "role" / "library")


def role_with_utils(ansible: SmallAnsible) -> None:
    write(ansible.root / "role" / "module_utils" / "common" / "text.py", "text = 2\n")
    ansible.utils.append(ansible.root / "role" / "module_utils")


CHANGES: dict[str, tuple[Callable[[SmallAnsible], object], set[str]]] = {
    "a module of ansible-core": (lambda a: write(Path(a.core) / "modules" / "ping.py", "ping = 2\n"), {PING}),
    "a module_utils of ansible-core": (lambda a: write(Path(a.core) / "module_utils" / "basic.py", "2\n"), set(ALL)),
    "a new module_utils there, that an optional import finds": (
        lambda a: write(Path(a.core) / "module_utils" / "extra.py", ""),
        set(ALL),
    ),
    "a module_utils of ansible-core that is gone": (
        lambda a: (Path(a.core) / "module_utils" / "common" / "text.py").unlink(),
        set(ALL),
    ),
    "the code that packs": (lambda a: write(Path(a.core) / "maker.py", "maker = 2\n"), set(ALL)),
    "the version of ansible-core": (lambda a: setattr(a, "version", "2.19.15"), set(ALL)),
    "the version of Python": (lambda a: setattr(a, "python", "3.12"), set(ALL)),
    "a module of a library": (lambda a: write(a.root / "library" / "greet.py", "greet = 2\n"), {GREET}),
    "a module of a library that is gone": (lambda a: (a.root / "library" / "greet.py").unlink(), {GREET}),
    "a second module of that name, of a role": (role_with_library, {GREET}),
    "a file of that name with another suffix": (lambda a: write(a.root / "library" / "greet.sh", ""), {GREET}),
    "a module_utils beside the playbook": (lambda a: write(a.root / "module_utils" / "basic.py", ""), set(ALL)),
    "a module_utils of a role": (role_with_utils, set(ALL)),
    "a binary module_utils": (lambda a: write(a.root / "module_utils" / "basic.so", ""), set(ALL)),
    "a module of a collection": (
        lambda a: write(words(a) / "plugins" / "modules" / "say.py", "from ..module_utils import loud\n"),
        {SAY},
    ),
    "a module_utils of a collection": (
        lambda a: write(words(a) / "plugins" / "module_utils" / "voice" / "loud.py", "loud = 2\n"),
        {SAY},
    ),
    "a new module_utils of a collection": (
        lambda a: write(words(a) / "plugins" / "module_utils" / "quiet.py", ""),
        {SAY},
    ),
    "where a collection says its names lead": (lambda a: write(words(a) / "meta" / "runtime.yml", "{}\n"), {SAY}),
    "another version of a collection, earlier in the path": (newer_collection, {SAY}),
    "a collection that is gone": (lambda a: shutil.rmtree(words(a)), {SAY}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_between_runs_is_not_given(ansible, kept, change):
    act, affected = CHANGES[change]
    Run(ansible, kept).whole(*ALL)
    act(ansible)
    assert Run(ansible, kept).begin() == set(ALL) - affected


# A process has one version of either.
DURING = [change for change in CHANGES if not change.startswith("the version of")]


@pytest.mark.parametrize("change", DURING)
def test_what_changes_during_a_run_is_taken_back(ansible, kept, change):
    act, affected = CHANGES[change]
    Run(ansible, kept).whole(*ALL)
    run = Run(ansible, kept)
    run.begin()
    act(ansible)
    run.cache.begin_task("any", ())
    assert run.has() == set(ALL) - affected
    assert run.cache.counts.taken_back == len(affected)


@pytest.mark.parametrize("change", DURING)
def test_what_was_built_before_a_change_is_not_kept(ansible, kept, change):
    act, affected = CHANGES[change]
    run = Run(ansible, kept)
    run.begin()
    run.build(*ALL)
    time.sleep(0.02)  # the kernel's clock for files ticks each 10 ms at worst
    act(ansible)
    run.cache.keep()
    assert Run(ansible, kept).begin() & affected == set()


def test_a_change_that_was_taken_back_leaves_nothing_kept_either(ansible, kept):
    """Who can say which of the two was packed?"""
    optional = Path(ansible.core) / "module_utils" / "extra.py"
    run = Run(ansible, kept)
    run.begin()
    run.build(PING)
    write(optional, "")
    optional.unlink()
    run.cache.keep()
    assert Run(ansible, kept).begin() == set()


def test_an_optional_import_of_a_collection_that_is_installed_later(ansible, kept):
    optional = "try:\n    import ansible_collections.demo.more.plugins.module_utils.x\nexcept ImportError:\n    pass\n"
    write(ansible.root / "library" / "greet.py", optional)
    Run(ansible, kept).whole(GREET)
    assert Run(ansible, kept).begin() == {GREET}
    write(words(ansible).parent / "more" / "plugins" / "module_utils" / "x.py", "")
    assert Run(ansible, kept).begin() == set()


def test_two_library_modules_of_one_name_and_content_are_one(ansible, kept):
    shutil.copytree(ansible.root / "library", ansible.root / "same")
    ansible.library.append(ansible.root / "same")
    Run(ansible, kept).whole(GREET)
    assert Run(ansible, kept).begin() == {GREET}


def test_a_task_that_looks_in_collections_gets_no_library_module(ansible, kept):
    """A Python module without .py in a collection has the same name in Ansible's directory."""
    Run(ansible, kept).whole(*ALL)
    assert Run(ansible, kept).begin(collections=("demo.words",)) == {PING, SAY}
    run = Run(ansible, kept)
    assert run.begin(collections=("ansible.builtin", "ansible.legacy")) == set(ALL)
    run.cache.begin_task("any", ("demo.words",))
    assert run.has() == {PING, SAY}


def test_with_workers_about_nothing_is_given_and_nothing_kept(ansible, kept):
    run = Run(ansible, kept)
    assert run.begin("free") == set()
    run.build(*ALL)
    run.cache.begin_play("linear")
    assert run.cache.counts.kept == 0

    Run(ansible, kept).whole(*ALL)
    mixed = Run(ansible, kept)
    assert mixed.begin("linear") == set(ALL)
    assert mixed.begin("host_pinned") == set(), "taken back before the play"
    assert mixed.begin("debug") == set(ALL)


def test_only_what_a_task_may_need_is_read(ansible, kept):
    Run(ansible, kept).whole(*ALL)
    assert Run(ansible, kept, frozenset({"ping", "copy"})).whole(*ALL) == {PING}


def test_what_was_built_although_it_is_kept_is_not_written_again(ansible, kept):
    Run(ansible, kept).whole(*ALL)
    before = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    run = Run(ansible, kept, frozenset())
    run.whole(*ALL)
    assert (run.cache.counts.given, run.cache.counts.kept) == (0, 0)
    assert {path.name: path.stat().st_mtime_ns for path in kept.iterdir()} == before


def test_each_play_keeps_what_it_built_so_that_a_killed_run_loses_one_play_only(ansible, kept):
    run = Run(ansible, kept)
    run.begin()
    run.build(PING)
    run.cache.begin_play("linear")
    run.build(SAY)
    assert Run(ansible, kept).begin() == {PING}


def test_two_states_are_both_kept(ansible, kept):
    """As two projects, or two releases of one, that are used in turns."""
    Run(ansible, kept).whole(GREET)
    write(ansible.root / "library" / "greet.py", "greet = 2\n")
    Run(ansible, kept).whole(GREET)
    assert Run(ansible, kept).begin() == {GREET}
    write(ansible.root / "library" / "greet.py", "greet = 1\n")
    assert Run(ansible, kept).begin() == {GREET}


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


STRANGE: dict[str, Callable[[dict[str, str]], bytes]] = {
    "a member is not what stands in its place": lambda m: packed(m | {"ansible/module_utils/basic.py": "basic = 0\n"}),
    "a member stands nowhere": lambda m: packed(m | {"ansible/module_utils/other.py": ""}),
    "a member of no known place": lambda m: packed(m | {"other/__init__.py": ""}),
    "a package that Ansible made up": lambda m: packed(m | {"ansible/module_utils/gone/__init__.py": ""}),
    "a module that was rewritten": lambda m: packed(m | {"ansible/modules/ping.py": "# replaced\n"}),
    "no module": lambda m: packed({path: text for path, text in m.items() if not path.endswith("modules/ping.py")}),
    "another profile": lambda m: packed(m, metadata=ModuleMetadataV1(serialization_profile="modern")),
    "sources for a debugger": lambda m: packed(m, source_mapping={"a": "b"}),
    "nothing": lambda m: b"",
    "no pickle": lambda m: b"nothing",
    "cut off": lambda m: packed(m)[:-100],
    "another pickle": lambda m: pickle.dumps({"zip_data": b""}),
    "evil": lambda m: pickle.dumps(Evil()),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_payload_that_cannot_be_proved_is_not_kept(ansible, kept, kind):
    run = Run(ansible, kept)
    run.begin()
    run.build(GREET)
    (run.directory / f"{PING}-ZIP_DEFLATED-none").write_bytes(STRANGE[kind](ansible.members(PING)))
    run.cache.keep()
    assert run.cache.counts.kept == 1
    assert len(run.cache.counts.passed_over) == 1
    assert Run(ansible, kept).begin() == {GREET}


@pytest.mark.parametrize("suffix", ["-ZIP_DEFLATED-coverage", "-ZIP_STRANGE-none", "-ZIP_DEFLATED", ".lock", "-part"])
def test_a_payload_with_another_name_is_not_kept(ansible, kept, suffix):
    run = Run(ansible, kept)
    run.begin()
    run.build(PING, suffix=suffix)
    run.cache.keep()
    assert run.cache.counts.kept == 0


def test_compressions_are_kept_apart(ansible, kept):
    run = Run(ansible, kept)
    run.begin()
    run.build(PING, suffix="-ZIP_STORED-none")
    run.cache.keep()
    second = Run(ansible, kept)
    second.begin()
    assert [path.name for path in second.directory.iterdir()] == [f"{PING}-ZIP_STORED-none"]


def test_what_was_there_before_the_first_play_is_not_kept(ansible, kept):
    run = Run(ansible, kept)
    run.build(PING)
    run = Run(ansible, kept)
    run.directory.mkdir(parents=True)
    run.build(PING)
    again = type(run.cache)(run.store, run.directory, lambda: 0.0, ansible.world, lambda *_: None)
    again.begin_play("linear")
    again.keep()
    assert again.counts.kept == 0


def test_two_runs_at_once_keep_one_of_each(ansible, kept):
    first, second = Run(ansible, kept), Run(ansible, kept)
    for run in (first, second):
        run.begin()
        run.build(*ALL)
    first.cache.keep()
    second.cache.keep()
    assert len(list(kept.glob("*.json"))) == 3
    assert Run(ansible, kept).begin() == set(ALL)


@pytest.mark.parametrize("suffix", [".payload", ".json"])
@pytest.mark.parametrize("harm", ["cut", "emptied", "opened to others", "a link", "gone"])
def test_what_was_harmed_is_not_given_and_made_anew(ansible, kept, harm, suffix):
    Run(ansible, kept).whole(PING)
    (path,) = kept.glob(f"*{suffix}")
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "emptied":
        path.write_bytes(b"")
    elif harm == "opened to others":
        path.chmod(0o644)
    elif harm == "a link":
        path.rename(kept.parent / "elsewhere")
        path.symlink_to(kept.parent / "elsewhere")
    else:
        path.unlink()
    run = Run(ansible, kept)
    assert run.whole(PING) == set()
    assert len(run.cache.counts.refused) == (harm != "gone")
    assert run.cache.counts.kept == 1
    assert Run(ansible, kept).begin() == {PING}


def test_the_standard_says_where_caches_are(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert default_directory({}) == Path("/home/ada/.cache/mcpops/payloads")
    assert default_directory({"XDG_CACHE_HOME": "/var/ada"}) == Path("/var/ada/mcpops/payloads")
    assert default_directory({"XDG_CACHE_HOME": "relative"}) == Path("/home/ada/.cache/mcpops/payloads")
