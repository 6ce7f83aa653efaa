"""An export needs no journal to be verified, and an anchor finds what a key alone can forge."""

from __future__ import annotations

import json
import shutil

import pytest
from sqlalchemy import delete

from mcpops.journal import anchor, tables
from mcpops.journal.export import lines, wrong
from mcpops.journal.seal import KeyFile
from mcpops.objects.directory import Directory
from mcpops.objects.store import Exists
from tests.unit.engine.stand import Stand, step


@pytest.fixture
def stand(tmp_path):
    stand = Stand(tmp_path, {}, sealer=KeyFile(tmp_path / "journal.key"))
    for n in (1, 2, 3):
        stand.drive(stand.begin(step("one"), run_id=f"run-{n}"))
    return stand


def own(stand):
    return {stand.store.sealer.key}


def test_an_export_verifies_and_so_does_a_part_of_it(stand):
    text = list(lines(stand.store))

    rows, problem = wrong(text, own(stand))
    assert (rows > 5, problem) == (True, None)
    assert wrong(lines(stand.store, since=rows // 2), own(stand)) == (rows - rows // 2, None)


@pytest.mark.parametrize("what", ["row", "seal", "gone", "a seal gone", "seals gone", "order", "key"])
def test_an_export_that_was_changed_does_not(stand, what):
    said, keys = [json.loads(line) for line in lines(stand.store)], own(stand)
    rows = [one for one in said if "row" in one]
    if what == "row":
        rows[3]["row"]["body"]["reason"] = "all is well"
    elif what == "seal":
        next(one for one in said if "seal" in one)["seal"]["sha256"] = "sha256:00"
    elif what == "gone":
        said.remove(rows[3])
    elif what == "a seal gone":
        said.remove([one for one in said if "seal" in one][1])
    elif what == "seals gone":
        said = rows
    elif what == "order":
        said[2], said[3] = said[3], said[2]
    else:
        keys = {"AAAA"}

    assert wrong(map(json.dumps, said), keys)[1]


def test_an_anchor_is_put_once_and_lies_on_the_chain(stand, tmp_path):
    place = Directory(tmp_path / "anchors")

    assert anchor.put(stand.store, place) == 3
    assert anchor.put(stand.store, place) == 3
    stand.drive(stand.begin(step("one"), run_id="run-4"))
    assert anchor.put(stand.store, place) == 4

    assert [row["number"] for row in anchor.all_of(place)] == [3, 4]
    assert stand.journal.verify(own(stand), anchor.all_of(place))[1] is None


def test_a_journal_that_was_written_anew_by_who_has_the_key_too_is_found(stand, tmp_path):
    place = Directory(tmp_path / "anchors")
    anchor.put(stand.store, place)
    (tmp_path / "forged").mkdir()
    for path in ("journal.key", "journal.key.head"):
        shutil.copy(tmp_path / path, tmp_path / "forged" / path)
    (tmp_path / "forged/journal.key.head").unlink()
    forged = Stand(tmp_path / "forged", {}, sealer=KeyFile(tmp_path / "forged/journal.key"))
    forged.clock.at = stand.clock.at
    for n in (1, 2, 3):
        forged.drive(forged.begin(step("two"), run_id=f"run-{n}"))

    assert forged.journal.verify(own(forged))[1] is None, "by itself it is whole"
    assert "seal 3" in forged.journal.verify(own(forged), anchor.all_of(place))[1]
    with pytest.raises(Exists):
        anchor.put(forged.store, place)


@pytest.mark.parametrize(
    "text", ["no JSON", "[]", '{"number": 1, "n": 1, "sha256": "", "at": "", "key": "", "signature": ""}']
)
def test_an_anchor_that_is_none_is_told(stand, tmp_path, text):
    place = Directory(tmp_path / "anchors")
    place.put_new("anchors/000000000009.json", text.encode())

    with pytest.raises(ValueError, match=r"is no anchor|Expecting value"):
        anchor.all_of(place)


def test_a_store_that_was_emptied_says_less_and_the_end_is_still_missed(stand):
    with stand.store.write() as connection:
        connection.execute(delete(tables.seal))

    assert wrong(lines(stand.store), own(stand))[1]
