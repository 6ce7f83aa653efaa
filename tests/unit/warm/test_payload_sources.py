"""One reading of files: what it notices."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mcpops.warm.payloads import sources
from mcpops.warm.payloads.sources import Sources, Uncertain


def later_ns() -> int:
    return time.time_ns() + 10**9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.py").write_text("a\n")
    (root / "sub" / "b.py").write_text("b\n")
    (root / "native.so").write_text("\0")
    (root / "__pycache__").mkdir()
    return root


def test_a_tree_is_its_names_and_the_content_of_its_sources(root):
    tree = Sources(later_ns).tree(str(root))
    assert sorted(tree.files) == ["a.py", "native.so", "sub/", "sub/b.py"]
    assert tree.files["native.so"] == ""
    assert len(tree.files["a.py"]) == 64
    assert Sources(later_ns).tree(str(root)).digest() == tree.digest()
    os.utime(root / "a.py", (1, 1))
    (root / "__pycache__" / "a.pyc").touch()
    assert Sources(later_ns).tree(str(root)).digest() == tree.digest()
    (root / "a.py").write_text("A\n")
    assert Sources(later_ns).tree(str(root)).digest() != tree.digest()


def test_names_that_look_alike_in_a_row_are_different(root):
    assert sources.Tree({"a": "b"}, 0).digest() != sources.Tree({"ab": ""}, 0).digest()


def test_a_tree_that_is_not_there_is_empty_until_it_comes(tmp_path):
    sources = Sources(later_ns)
    assert sources.tree(str(tmp_path / "none")).files == {}
    assert sources.unchanged()
    (tmp_path / "none").mkdir()
    assert not sources.unchanged()


CHANGES = {
    "edited": lambda root: (root / "a.py").write_text("changed\n"),
    "edited to the same size": lambda root: (root / "a.py").write_text("A\n"),
    "edited, and its time set back": lambda root: (
        (root / "a.py").write_text("A\n"),
        os.utime(root / "a.py", ns=(1, (root / "native.so").stat().st_mtime_ns)),
    ),
    "replaced": lambda root: (root / "sub" / "b.py").rename(root / "a.py"),
    "added": lambda root: (root / "sub" / "c").touch(),
    "added and removed": lambda root: ((root / "c").touch(), (root / "c").unlink()),
    "removed": lambda root: (root / "native.so").unlink(),
    "a directory": lambda root: (root / "sub" / "deep").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(root, change):
    sources = Sources(later_ns)
    sources.tree(str(root))
    assert sources.unchanged()
    CHANGES[change](root)
    assert not sources.unchanged()


def test_what_changed_just_now_is_never_trusted(root):
    """Within one tick of the kernel's clock a file may change twice and have one time."""
    sources = Sources(lambda: (root / "a.py").stat().st_ctime_ns + 10_000_000)
    sources.digest(str(root / "a.py"))
    assert not sources.unchanged()


@pytest.mark.parametrize("what", ["link", "pipe", "directory"])
def test_what_is_no_plain_file_or_directory_is_uncertain(root, tmp_path, what):
    if what == "link":
        (root / "c").symlink_to(tmp_path)
    elif what == "pipe":
        os.mkfifo(root / "c.py")
    else:
        (root / "c").mkdir()
        with pytest.raises(Uncertain):
            Sources(later_ns).digest(str(root / "c"))
        return
    with pytest.raises(Uncertain):
        Sources(later_ns).tree(str(root))


def test_a_directory_that_holds_too_much_is_uncertain(root, monkeypatch):
    monkeypatch.setattr(sources, "_MAX_FILES", 3)
    with pytest.raises(Uncertain, match="more than 3 files"):
        Sources(later_ns).tree(str(root))


def test_a_link_to_a_file_is_what_it_leads_to(root, tmp_path):
    (tmp_path / "one").write_text("one")
    (root / "c.py").symlink_to(tmp_path / "one")
    sources = Sources(later_ns)
    before = sources.tree(str(root)).digest()
    assert sources.unchanged()
    (tmp_path / "one").write_text("two")
    assert not sources.unchanged()
    assert Sources(later_ns).tree(str(root)).digest() != before
