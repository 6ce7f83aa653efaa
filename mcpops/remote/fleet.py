"""Fleet: the open channels to all hosts of a step, and the hosts that could not be reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from mcpops.core.errors import McpopsError
from mcpops.model.target import Target
from mcpops.remote.channel import Answer, Channel, Silent, Unreachable
from mcpops.remote.transport import TRANSPORTS, Transport

_T = TypeVar("_T")
MOST_THREADS = 32


class Fleet:
    """Channels by host name, in the order of the targets; `errors` says why the others have none."""

    def __init__(
        self, channels: Mapping[str, Channel], greetings: Mapping[str, Answer], errors: Mapping[str, McpopsError]
    ) -> None:
        self.channels = dict(channels)
        self.greetings = dict(greetings)
        self.errors = dict(errors)

    @classmethod
    def open(
        cls, targets: Sequence[Target], timeout_s: float, transports: Mapping[str, Transport] = TRANSPORTS
    ) -> Fleet:
        """Open a channel to each target, all at once, and ask each for its status: an answer proves the channel."""
        fleet = cls.start(targets, timeout_s, transports)
        fleet.greet(timeout_s)
        return fleet

    @classmethod
    def start(
        cls, targets: Sequence[Target], timeout_s: float, transports: Mapping[str, Transport] = TRANSPORTS
    ) -> Fleet:
        """Begin to open the channels, and do not wait; whoever is in a hurry has other things to do meanwhile."""
        channels: dict[str, Channel] = {}
        errors: dict[str, McpopsError] = {}
        for target in targets:
            try:
                channels[target.name] = transports[target.connection].open(target, timeout_s)
            except Unreachable as error:
                errors[target.name] = error
        return cls(channels, {}, errors)

    def greet(self, timeout_s: float, quick_s: float | None = None) -> None:
        """Ask each host for its status, and keep the answers in `greetings`.

        A host without one within `timeout_s`, or that answers with an error (no service there), stands in `errors`.
        With `quick_s`, hosts that have not answered by then are given up as soon as any other has.
        """
        try:
            waiting, left_s = list(self.channels), timeout_s
            if quick_s is not None and quick_s < timeout_s:
                waiting, left_s = self._greet(waiting, quick_s), timeout_s - quick_s
                if self.greetings:
                    left_s = 0.0
            for host in self._greet(waiting, left_s) if left_s else waiting:
                self.drop(host, self.errors[host])
        except BaseException:
            self.close()
            raise

    def _greet(self, hosts: Sequence[str], deadline_s: float) -> list[str]:
        """Ask these hosts for their status; return those that may still answer, with the reason in `errors`."""
        silent = []
        for host, answer in self.call_all(dict.fromkeys(hosts, ("status",)), deadline_s).items():
            if isinstance(answer, Answer) and not answer.exit:
                self.errors.pop(host, None)
                self.greetings[host] = answer
            elif isinstance(answer, Silent):
                self.errors[host] = answer
                silent.append(host)
            else:
                self.drop(host, answer if isinstance(answer, Unreachable) else _no_status(host, answer))
        return silent

    def call(self, host: str, argv: Sequence[str], deadline_s: float) -> Answer:
        """Do one command on one host; raises Unreachable, also for a host without a channel."""
        channel = self.channels.get(host)
        if channel is None:
            why = self.errors.get(host)
            raise Unreachable(host, why.message if why else f"{host}: no channel", detail=why.detail if why else "")
        return channel.call(argv, deadline_s)

    def call_all(self, argv: Mapping[str, Sequence[str]], deadline_s: float) -> dict[str, Answer | Unreachable]:
        """Do one command on each host that `argv` names, all at once; an unreachable host is a value, not an error."""

        def one(host: str) -> Answer | Unreachable:
            try:
                return self.call(host, argv[host], deadline_s)
            except Unreachable as error:
                return error

        return in_parallel(one, list(argv))

    def drop(self, host: str, why: McpopsError) -> None:
        """Close the channel of a host that did not answer, and keep the reason."""
        self.errors[host] = why
        channel = self.channels.pop(host, None)
        if channel:
            channel.close()

    def close(self) -> None:
        """End all channels."""
        for channel in self.channels.values():
            with suppress(OSError):
                channel.close()
        self.channels.clear()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _no_status(host: str, answer: Answer) -> Unreachable:
    said = {key: str(answer.error.get(key) or "") for key in ("message", "detail", "hint")}
    return Unreachable(host, f"{host}: {said['message'] or answer.exit}", detail=said["detail"], hint=said["hint"])


def in_parallel(do: Callable[[str], _T], hosts: Sequence[str]) -> dict[str, _T]:
    """Return `do(host)` of each host, in their order."""
    if len(hosts) <= 1:
        return {host: do(host) for host in hosts}
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - the channels get under way before this

    with ThreadPoolExecutor(min(len(hosts), MOST_THREADS)) as pool:
        return dict(zip(hosts, pool.map(do, hosts), strict=True))
