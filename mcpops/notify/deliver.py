"""Delivering what the journal says is to be told: by whoever comes by, until it arrived."""

from __future__ import annotations

from collections.abc import Mapping

from mcpops.core.clock import Clock
from mcpops.journal import outbox
from mcpops.journal.store import Store
from mcpops.notify.channels import Channel, NotDelivered

MOST = 20  # tries a call; a channel that does not answer takes ten seconds each


def deliver(store: Store, clock: Clock, channels: Mapping[str, Channel]) -> list[str]:
    """Try each notice whose time has come once; return what did not arrive, in a line each.

    A notice on a channel that is not there any more stays, and says so: whoever took the channel away decides.
    """
    trouble = []
    for _ in range(MOST):
        notice = outbox.claim(store, clock)
        if notice is None:
            break
        try:
            channel = channels.get(notice.channel)
            if channel is None:
                raise NotDelivered("there is no such channel in mcpops.yml any more")
            channel.send(notice.body)
        except Exception as error:  # noqa: BLE001 - whatever one channel does, the others are told
            # The text of an error that is not ours may hold the address, which may be the secret.
            why = str(error) if isinstance(error, NotDelivered) else type(error).__name__
            outbox.failed(store, clock, notice, why)
            trouble.append(f"{notice.channel}: {why}")
        else:
            outbox.delivered(store, clock, notice)
    return trouble
