"""The directory of payloads: whom it trusts, and what it throws away."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from mcpops.warm.payloads import store as stores
from mcpops.warm.payloads.store import KEPT_BYTES, KEPT_S, Damaged, Entry, Store, Unsafe

KEY = "0123456789abcdef" * 4
ME = os.geteuid()
NOBODY = 65534
as_root = pytest.mark.skipif(ME != 0, reason="not on this machine: root, who can give files away")


def entry_of(payload: bytes, name: str = "ansible.modules.ping-ZIP_DEFLATED-none") -> Entry:
    return Entry(
        KEY,
        name,
        "5" * 64,
        {"demo.words": "6" * 64, "demo.none": None},
        stores.hashlib.sha256(payload).hexdigest(),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "kept", ME)


def only(store: Store) -> Entry:
    (manifest,) = store.manifests(KEY)
    return store.entry(manifest)


def test_what_was_written_comes_back(store, tmp_path):
    store.write(entry_of(b"payload"), b"payload")
    assert only(store) == entry_of(b"payload")
    store.give(only(store), tmp_path / "given", 0.0)
    assert (tmp_path / "given").read_bytes() == b"payload"


def test_the_directory_and_its_files_are_for_us_alone(tmp_path):
    old = os.umask(0o002)
    store = Store.open(tmp_path / "new" / "kept", ME)
    store.write(entry_of(b"payload"), b"payload")
    os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*")}
    assert modes.pop("kept") == 0o700
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_payload_is_copied_where_it_cannot_be_linked(store, tmp_path, monkeypatch):
    def no_link(*_args, **_kwargs):
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", no_link)
    store.write(entry_of(b"payload"), b"payload")
    store.give(only(store), tmp_path / "given", 0.0)
    assert (tmp_path / "given").read_bytes() == b"payload"
    assert (tmp_path / "given").stat().st_nlink == 1
    (damaged,) = (tmp_path / "kept").glob("*.payload")
    damaged.write_bytes(b"PAYLOAD")
    with pytest.raises(Damaged):
        store.give(only(store), tmp_path / "other", 0.0)
    assert not (tmp_path / "other").exists()


def test_a_payload_that_was_replaced_while_it_was_read_is_copied_as_read(store, tmp_path, monkeypatch):
    store.write(entry_of(b"payload"), b"payload")
    (path,) = (tmp_path / "kept").glob("*.payload")
    link = os.link

    def replace_and_link(*args, **kwargs):
        path.with_suffix(".new").write_bytes(b"another")
        path.with_suffix(".new").rename(path)
        link(*args, **kwargs)

    monkeypatch.setattr(os, "link", replace_and_link)
    store.give(only(store), tmp_path / "given", 0.0)
    assert (tmp_path / "given").read_bytes() == b"payload"


def test_a_directory_open_to_others_is_refused(tmp_path):
    (tmp_path / "kept").mkdir(mode=0o700)
    for mode in (0o750, 0o705, 0o701, 0o770):
        (tmp_path / "kept").chmod(mode)
        with pytest.raises(Unsafe, match=f"{mode:04o}"):
            Store.open(tmp_path / "kept", ME)


def test_a_link_to_a_directory_is_refused(tmp_path):
    (tmp_path / "kept").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("kept")
    with pytest.raises(Unsafe, match="symbolic link"):
        Store.open(tmp_path / "link", ME)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        Store.open(tmp_path / "file", ME)


@pytest.mark.parametrize("mode", [0o777, 0o772, 0o720])
def test_a_parent_that_others_can_write_is_refused_unless_it_is_sticky(tmp_path, mode):
    parent = tmp_path / "parent"
    Store.open(parent / "deep" / "kept", ME)
    parent.chmod(mode)
    with pytest.raises(Unsafe, match="written by others"):
        Store.open(parent / "deep" / "kept", ME)
    parent.chmod(mode | stat.S_ISVTX)
    Store.open(parent / "deep" / "kept", ME)


def test_a_parent_behind_a_link_is_looked_at_too(tmp_path):
    Store.open(tmp_path / "real" / "deep" / "kept", ME)
    (tmp_path / "link").symlink_to("real/deep")
    Store.open(tmp_path / "link" / "kept", ME)
    (tmp_path / "real").chmod(0o777)
    with pytest.raises(Unsafe, match="written by others"):
        Store.open(tmp_path / "link" / "kept", ME)


@as_root
def test_what_belongs_to_somebody_else_is_refused(tmp_path):
    kept = tmp_path / "parent" / "kept"
    store = Store.open(kept, ME)
    store.write(entry_of(b"payload"), b"payload")
    (manifest,) = store.manifests(KEY)
    os.chown(kept / entry_of(b"payload").payload(), NOBODY, NOBODY)
    with pytest.raises(Unsafe, match="belongs to user 65534"):
        store.give(only(store), tmp_path / "given", 0.0)
    os.chown(kept / manifest, NOBODY, NOBODY)
    with pytest.raises(Unsafe, match="belongs to user 65534"):
        store.entry(manifest)
    for path in (kept, kept.parent):
        os.chown(path, NOBODY, NOBODY)
        with pytest.raises(Unsafe, match="belongs to user 65534"):
            Store.open(kept, ME)
        os.chown(path, ME, 0)
    (tmp_path / "link").symlink_to("parent")
    os.chown(tmp_path / "link", NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(Unsafe, match="belongs to user 65534"):
        Store.open(tmp_path / "link" / "kept", ME)


def manifest_with(**more: object) -> str:
    fields = {"format": 1, **entry_of(b"payload")._asdict()} | more
    return json.dumps({name: value for name, value in fields.items() if value != "absent"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        manifest_with()[:-20],
        manifest_with(format=2),
        manifest_with(format="absent"),
        manifest_with(name="absent"),
        manifest_with(name=["a"]),
        manifest_with(name="../../evil"),
        manifest_with(collections=[]),
        manifest_with(collections={"demo.words": 1}),
        manifest_with(payload_sha256=None),
        manifest_with(more="x"),
        manifest_with(module_sha256="7" * 64),  # good, but for another payload than the file's name says
        "x" * (1 << 17),
    ],
)
def test_a_manifest_that_is_none_is_refused(store, tmp_path, text):
    store.write(entry_of(b"payload"), b"payload")
    (manifest,) = store.manifests(KEY)
    (tmp_path / "kept" / manifest).write_text(text)
    with pytest.raises(Damaged):
        store.entry(manifest)


def test_a_pipe_in_the_place_of_a_payload_does_not_hang(store, tmp_path):
    store.write(entry_of(b"payload"), b"payload")
    (path,) = (tmp_path / "kept").glob("*.payload")
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(Damaged):
        store.give(only(store), tmp_path / "given", 0.0)


def test_a_write_that_fails_leaves_nothing(store, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="full"):
        store.write(entry_of(b"payload"), b"payload")
    assert list((tmp_path / "kept").iterdir()) == []


def test_readers_never_see_half_of_what_two_write_at_once(store, tmp_path):
    payloads = [bytes([number]) * 200_000 for number in (1, 2)]

    def write(payload: bytes) -> None:
        for _ in range(50):
            store.write(entry_of(payload), payload)

    writers = [threading.Thread(target=write, args=(payload,)) for payload in payloads]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers) or seen == 0:
        for manifest in store.manifests(KEY):
            store.give(store.entry(manifest), tmp_path / f"given-{seen}", 0.0)
            assert (tmp_path / f"given-{seen}").read_bytes() in payloads
            seen += 1


def test_what_is_used_stays_and_what_is_not_goes_after_a_month(store, tmp_path):
    kept = tmp_path / "kept"
    used, unused = entry_of(b"used", "a-ZIP_STORED-none"), entry_of(b"unused", "b-ZIP_STORED-none")
    for entry, payload in ((used, b"used"), (unused, b"unused")):
        store.write(entry, payload)
    (kept / "somebody's.json").touch()
    (kept / f".{'a' * 16}.tmp").touch()
    (kept / f".{'b' * 16}.tmp").touch()
    now_s = 2_000_000_000.0
    for path in kept.iterdir():
        os.utime(path, (now_s - KEPT_S - 1, now_s - KEPT_S - 1))
    os.utime(kept / f".{'b' * 16}.tmp", (now_s - 60, now_s - 60))

    store.give(used, tmp_path / "given", now_s)

    assert store.prune(now_s) == 3
    stays = {used.payload(), f"{used.stem()}.json", "somebody's.json", f".{'b' * 16}.tmp"}
    assert {path.name for path in kept.iterdir()} == stays
    assert store.prune(now_s) == 0


def test_the_longest_unused_go_when_it_is_too_much(store, tmp_path):
    kept = tmp_path / "kept"
    half = entry_of(b"").stem()
    for number in range(5):
        path = kept / f"{half}-{number:016x}.payload"
        path.touch()
        os.truncate(path, KEPT_BYTES // 4)
        os.utime(path, (1000 + number, 1000 + number))
    assert store.prune(2000.0) == 1
    assert sorted(int(path.stem[-1]) for path in kept.iterdir()) == [1, 2, 3, 4]
