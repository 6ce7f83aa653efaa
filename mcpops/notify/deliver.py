"""Delivering what the journal says is to be told: by whoever comes by, until it arrived."""

from __future__ import annotations

from collections.abc import Mapping

from mcpops.core.clock import Clock
from mcpops.journal import outbox
from mcpops.journal.store import Store
from mcpops.notify.channels import Channel, NotDelivered


def deliver(store: Store, clock: Clock, channels: Mapping[str, Channel]) -> list[str]:
    """Try each notice whose time has come once; return what did not arrive, in a line each.

    A notice on a channel that is not there any more stays, and says so: whoever took the channel away decides.
    """
    trouble = []
    for notice in outbox.claim(store, clock):
        try:
            channel = channels.get(notice.channel)
            if channel is None:
                raise NotDelivered("there is no such channel in mcpops.yml any more")
            channel.send(notice.body)
        except NotDelivered as error:
            outbox.failed(store, clock, notice, str(error))
            trouble.append(f"{notice.channel}: {error}")
        else:
            outbox.delivered(store, clock, notice)
    return trouble
