"""What is part of a tree, and what only lies in it."""

from __future__ import annotations

import pytest

from mcpops.core.tree import files, tree_digest


@pytest.fixture
def inventory(tmp_path):
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts.yml").write_text("all: {}\n")
    return tmp_path


def test_the_lock_of_an_editor_is_no_part_of_it(inventory):
    """Emacs makes it while somebody edits the file, and nothing may depend on that."""
    before = tree_digest(inventory)
    for name in (".#hosts.yml", "group_vars/.#all.yml"):
        (inventory / name).symlink_to("ada@control.1234:1795521601")

    assert tree_digest(inventory) == before
    assert [path.name for path in files(inventory)] == ["hosts.yml"]


def test_another_link_that_leads_nowhere_is_an_error(inventory):
    (inventory / "more.yml").symlink_to("nowhere.yml")

    with pytest.raises(FileNotFoundError, match=r"more\.yml"):
        tree_digest(inventory)


def test_a_file_with_the_name_of_a_lock_is_a_part_of_it(inventory):
    before = tree_digest(inventory)
    (inventory / ".#hosts.yml").write_text("all: {}\n")

    assert tree_digest(inventory) != before
