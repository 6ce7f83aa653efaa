"""Delivery: at least once, by whoever comes by; what is down does not keep the others waiting."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mcpops.journal import outbox
from mcpops.notify.channels import NotDelivered
from mcpops.notify.deliver import deliver
from tests.unit.engine.stand import FAILED, Stand, step


class Heard:
    def __init__(self, *troubles) -> None:
        self.troubles, self.bodies = list(troubles), []

    def send(self, body) -> None:
        self.bodies.append(body)
        if self.troubles:
            raise NotDelivered(self.troubles.pop(0))


@pytest.fixture
def stand(tmp_path):
    stand = Stand(tmp_path, {"one": FAILED})
    stand.store.wanted = lambda environment, event, schedule: ["pager", "mail"]
    stand.drive(stand.begin(step("one")))
    return stand


def test_each_channel_hears_once(stand):
    channels = {"pager": Heard(), "mail": Heard()}

    assert deliver(stand.store, stand.clock, channels) == []
    assert deliver(stand.store, stand.clock, channels) == []

    for channel in channels.values():
        (body,) = channel.bodies
        assert (body["event"], body["run"], body["exit_code"], body["reason"]) == (
            "failed", "run-1", 1, "step one: it broke",
        )  # fmt: skip


def test_what_did_not_arrive_is_tried_again_with_the_same_id_and_the_rest_is_not(stand):
    pager, mail = Heard("down", "still down"), Heard()
    channels = {"pager": pager, "mail": mail}

    assert deliver(stand.store, stand.clock, channels) == ["pager: down"]
    for minutes in (1, 1, 5):
        stand.clock.at += timedelta(minutes=minutes)
        deliver(stand.store, stand.clock, channels)

    assert len({body["id"] for body in pager.bodies}) == 1
    assert (len(pager.bodies), len(mail.bodies)) == (3, 1)
    assert stand.journal.verify()[1] is None


class Broken:
    def send(self, body) -> None:
        raise UnicodeError("https://example.com/the-secret-path")


def test_a_channel_that_breaks_keeps_no_other_from_being_told_and_shows_no_address(stand):
    mail = Heard()

    trouble = deliver(stand.store, stand.clock, {"pager": Broken(), "mail": mail})

    assert trouble == ["pager: UnicodeError"]
    assert len(mail.bodies) == 1
    assert outbox.undelivered(stand.store).error == "UnicodeError"


def test_a_channel_that_is_not_in_the_settings_any_more_keeps_its_notice_and_is_told(stand):
    trouble = deliver(stand.store, stand.clock, {"mail": Heard()})

    assert "no such channel" in trouble[0]
    assert outbox.undelivered(stand.store).count == 1
