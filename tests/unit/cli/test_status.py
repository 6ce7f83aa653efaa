"""What `mcpops status` says beside the fronts: who acts, and whether the environment is locked."""

from __future__ import annotations

from mcpops.cli.project import Environment
from mcpops.cli.status import _journal, _text
from tests.unit.engine.stand import FAILED, Stand, step

SERVES = {"environment": "lab", "active": {"slot": None, "release": None, "since": None}, "slots": {}, "fronts": {}}


def test_a_locked_environment_is_told_and_by_which_run(tmp_path):
    environment = Environment("lab", tmp_path, tmp_path / "inventories/lab", tmp_path / ".mcpops/lab")
    (tmp_path / ".mcpops").mkdir()
    stand = Stand(tmp_path / ".mcpops", {"one": FAILED})
    stand.drive(stand.begin(step("one")))
    assert _journal(environment)["locked_by"] is None

    stand.script["undo two"] = stand.script["two"] = FAILED
    stand.drive(stand.begin(step("two", undo=True), run_id="run-2"))

    told = _journal(environment)
    assert (told["locked_by"], told["lease"]) == ("run-2", None)
    assert "LOCKED: the undo of run run-2 failed" in _text({**SERVES, "agreed": True, **told})
