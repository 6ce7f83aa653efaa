"""The files of a queued run arrive as they were planned, or not at all."""

from __future__ import annotations

import io
import tarfile

import pytest

from mcpops.core.errors import UsageError
from mcpops.core.tree import tree_digest
from mcpops.journal.packed import pack, unpack


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "there"
    for name, mode in (("snapshot/a.yml", 0o664), ("snapshot/run.sh", 0o775), ("files/key", 0o400)):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(mode)
    return home


def test_modes_and_content_are_those_that_were_planned(home, tmp_path):
    unpack(pack(home), tmp_path / "here/run-1")

    assert tree_digest(tmp_path / "here/run-1") == tree_digest(home)
    assert (tmp_path / "here/run-1").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["run-1"]


def test_of_two_workers_that_unpack_at_once_the_second_finds_it_done(home, tmp_path):
    unpack(pack(home), tmp_path / "run-1")
    unpack(pack(home), tmp_path / "run-1")

    assert tree_digest(tmp_path / "run-1") == tree_digest(home)


def evil(name: str, **more) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        for key, value in more.items():
            setattr(member, key, value)
        tar.addfile(member)
    return packed.getvalue()


@pytest.mark.parametrize(
    "tar",
    [b"no archive", b"", evil("../outside"), evil("x", type=tarfile.SYMTYPE, linkname="/etc")],
    ids=["words", "nothing", "a name above", "a link outside"],
)
def test_what_is_no_such_archive_leaves_nothing(tmp_path, tar):
    with pytest.raises(UsageError) as caught:
        unpack(tar, tmp_path / "runs/run-1")

    assert caught.value.hint
    assert list((tmp_path / "runs").iterdir()) == []
    assert not (tmp_path / "outside").exists()
