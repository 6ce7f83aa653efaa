"""What every driver must do, as hosts are used: by the program's answers. A driver's test module inherits the suite."""

from __future__ import annotations

from typing import Any, Protocol


class Stand(Protocol):
    """A host with one service whose slots the driver under test keeps. Releases come as bundles."""

    def hostside(self, *argv: str, stdin: object = None) -> tuple[int, dict[str, Any]]: ...

    def next_run(self) -> None: ...

    def good(self, number: int) -> dict[str, Any]:
        """The first or the second good release."""
        ...

    def wrong_digest(self) -> dict[str, Any]: ...

    def not_starting(self) -> dict[str, Any]:
        """A release that writes `no licence key` and ends."""
        ...

    def taken_port(self, slot: str) -> Any: ...


class DriverContract:
    """The suite."""

    def stage(self, stand: Stand, slot: str, bundle: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return stand.hostside("slot", "stage", slot, "--manifest", "-", stdin=bundle)

    def show(self, stand: Stand, slot: str) -> dict[str, Any]:
        return stand.hostside("slot", "show", slot)[1]

    def test_stage_stop_start_remove(self, stand):
        code, output = self.stage(stand, "blue", stand.good(1))
        assert (code, output["changed"]) == (0, True), output
        assert self.show(stand, "blue")["exact"]
        assert self.stage(stand, "blue", stand.good(1))[1]["changed"] is False
        for action, running in (("stop", False), ("start", True), ("stop", False), ("start", True)):
            code, output = stand.hostside("slot", action, "blue")
            assert (code, output["changed"]) == (0, True), output
            assert stand.hostside("slot", action, "blue")[1]["changed"] is False
            shown = self.show(stand, "blue")
            assert (shown["running"], shown["exact"]) == (running, running)
        assert stand.hostside("slot", "remove", "blue")[1]["changed"] is True
        assert self.show(stand, "blue")["release"] is None

    def test_both_slots_live_side_by_side_and_are_told_apart(self, stand):
        for slot, number in (("blue", 1), ("green", 2)):
            assert self.stage(stand, slot, stand.good(number))[0] == 0
        assert [self.show(stand, slot)["exact"] for slot in ("blue", "green")] == [True, True]
        digest = stand.good(2)["manifest"]["digest"]
        assert stand.hostside("slot", "show", "blue", "--digest", digest)[1]["exact"] is False

    def test_another_release_replaces_and_revert_brings_the_first_back(self, stand):
        self.stage(stand, "blue", stand.good(1))
        stand.next_run()
        assert self.stage(stand, "blue", stand.good(2))[0] == 0
        assert self.show(stand, "blue")["digest"] == stand.good(2)["manifest"]["digest"]
        assert stand.hostside("slot", "revert", "blue")[0] == 0
        shown = self.show(stand, "blue")
        assert (shown["digest"], shown["exact"]) == (stand.good(1)["manifest"]["digest"], True)

    def test_a_wrong_digest_starts_nothing(self, stand):
        code, output = self.stage(stand, "blue", stand.wrong_digest())
        assert (code, output["error"]["name"]) == (1, "wrong_digest"), output
        assert self.show(stand, "blue")["running"] is False

    def test_a_release_that_does_not_start_shows_its_log(self, stand):
        code, output = self.stage(stand, "blue", stand.not_starting())
        assert (code, output["error"]["name"]) == (1, "not_started"), output
        assert "no licence key" in output["error"]["detail"]
        shown = self.show(stand, "blue")
        assert (shown["release"], shown["running"]) == (None, False)

    def test_a_port_in_use_is_told(self, stand):
        with stand.taken_port("blue"):
            code, output = self.stage(stand, "blue", stand.good(1))
        assert (code, output["error"]["name"]) == (1, "port_in_use"), output
        assert self.show(stand, "blue")["running"] is False

    def test_the_kind_of_the_other_driver_is_a_usage_error(self, stand):
        bundle = stand.good(1)
        other = {"image": "requirements", "requirements": "image"}[bundle["manifest"]["artifact"]["kind"]]
        bundle["manifest"]["artifact"]["kind"] = other
        bundle["manifest"]["artifact"].setdefault("lock", "x")
        code, output = self.stage(stand, "blue", bundle)
        assert (code, output["error"]["name"]) == (2, "wrong_kind"), output

    def test_logs(self, stand):
        self.stage(stand, "blue", stand.good(1))
        code, output = stand.hostside("slot", "logs", "blue")
        assert code == 0
        assert output["log"]
