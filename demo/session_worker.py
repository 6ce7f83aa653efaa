"""Real MCP SDK clients in one process, of whichever SDK this Python has (1.x or 2.x). Started by `demo.sessions`.

Stands alone on purpose: it runs in a virtual environment that has nothing but the SDK. stdin: one JSON line with the
settings, then EOF means stop. stdout: one JSON line an event: `open`, `call`, `error`, `lost`, `note`, `missed`,
`closed`, each with the number of the session and the wall clock in nanoseconds; at the end `summary`.
"""

# ruff: noqa: ANN401  (two SDKs with types of their own stand behind the same lines)
from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import ssl
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

SDK = version("mcp")
SDK_MAJOR = int(SDK.split(".")[0])
SLOT_HEADER = "x-mcpops-slot"


def tell(event: str, **fields: object) -> None:
    """Write one event line."""
    print(json.dumps({"event": event, "at_ns": time.time_ns(), **fields}), flush=True)


class Counts:
    """What one session slot of this worker has seen over all sessions it opened, one after the other."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tally: Counter[str] = Counter()
        self.slots: list[str] = []
        self.noted = 0
        self.counter = 0
        self.slot = ""

    def new_session(self) -> None:
        """Forget what belonged to the session before."""
        self.noted, self.counter = 0, 0

    def note(self, data: object) -> None:
        """Take in one notification; a jump in its number is that many missed."""
        number = data.get("n") if isinstance(data, dict) else None
        self.tally["notes"] += 1
        if not isinstance(number, int):
            return
        gap = number - self.noted - 1
        self.noted = number
        if gap > 0:
            self.missed(gap)

    def missed(self, count: int) -> None:
        """Count notifications that never came."""
        self.tally["missed"] += count
        tell("missed", session=self.number, count=count)

    def called(self, data: object) -> str | None:
        """Take in a call's result; returns what is wrong with it (a counter that was reset), or None."""
        self.tally["calls"] += 1
        slot, counter = self.slot, None
        if isinstance(data, dict):
            slot, counter = str(data.get("slot") or slot), data.get("counter")
        if slot and (not self.slots or self.slots[-1] != slot):
            self.slots.append(slot)
        tell("call", session=self.number, slot=slot)
        if not isinstance(counter, int):
            return None
        self.counter += 1
        return None if counter == self.counter else f"counter is {counter}, expected {self.counter}"


class Session:
    """One open session of either SDK: `call` a tool, and notifications go to `counts` as they come."""

    def __init__(self, client: Any, protocol: str) -> None:
        self._client = client
        self.protocol = protocol

    async def call(self, tool: str, arguments: dict[str, Any]) -> object:
        """Call the tool; returns its structured result, or its text parsed as JSON, or the text."""
        result = await self._client.call_tool(tool, arguments)
        if getattr(result, "is_error", getattr(result, "isError", False)):
            raise ValueError(f"tool error: {result.content[0].text[:120]}")
        text = result.content[0].text if result.content else ""
        with contextlib.suppress(ValueError):
            return json.loads(text)
        return text


def http_client(settings: dict[str, Any], source: str | None, counts: Counts) -> Any:
    """The HTTP client an SDK user would pass: own source address, the CA verified, no retries."""
    if SDK_MAJOR >= 2:
        import httpx2 as httpx  # noqa: PLC0415  each SDK brings its own
    else:
        import httpx  # type: ignore[no-redef]  # noqa: PLC0415

    async def seen(response: Any) -> None:
        counts.slot = response.headers.get(SLOT_HEADER, counts.slot)

    class Transport(httpx.AsyncHTTPTransport):
        """Goes to a given address while the name in the URL stays what the certificate is held against."""

        async def handle_async_request(self, request: Any) -> Any:
            address = settings.get("connect_to")
            if address and request.url.host != address:
                request.extensions = {**request.extensions, "sni_hostname": request.url.host}
                request.url = request.url.copy_with(host=address)
            return await super().handle_async_request(request)

    cafile = settings.get("cafile")
    verify: Any = ssl.create_default_context(cafile=cafile) if cafile else True
    transport = Transport(local_address=source, verify=verify, retries=0)
    timeout = httpx.Timeout(30.0, read=300.0)
    return httpx.AsyncClient(transport=transport, timeout=timeout, event_hooks={"response": [seen]})


@contextlib.asynccontextmanager
async def open_session(settings: dict[str, Any], source: str | None, counts: Counts) -> AsyncIterator[Session]:
    """Open a session with the SDK at hand. Settings: url, cafile, mode (2.x: legacy or auto), call_timeout_s."""
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415

    async def log(params: Any) -> None:
        counts.note(params.data)

    async with http_client(settings, source, counts) as http:
        transport = streamable_http_client(settings["url"], http_client=http)
        if SDK_MAJOR >= 2:
            from mcp.client import Client  # noqa: PLC0415

            async with Client(
                transport, mode=settings["mode"], logging_callback=log, read_timeout_seconds=settings["call_timeout_s"]
            ) as client:
                yield Session(client, str(client.protocol_version))
        else:
            from datetime import timedelta  # noqa: PLC0415

            from mcp import ClientSession  # noqa: PLC0415

            wait: Any = timedelta(seconds=settings["call_timeout_s"])
            async with (
                transport as (reader, writer, *_),
                ClientSession(reader, writer, read_timeout_seconds=wait, logging_callback=log) as old,
            ):
                hello = await old.initialize()
                yield Session(old, str(getattr(hello, "protocolVersion", "")))


async def use(settings: dict[str, Any], session: Session, counts: Counts, stop: asyncio.Event) -> None:
    """Call the tool steadily until `stop`; raises what the SDK raises, ValueError for a counter that was reset."""
    tool, arguments = settings["tool"], settings["arguments"]
    while not stop.is_set():
        wrong = counts.called(await session.call(tool, arguments))
        if wrong:
            raise ValueError(wrong)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), settings["call_every_s"])
    last = await session.call(tool, arguments)
    sent = last.get("noted") if isinstance(last, dict) else None
    if not isinstance(sent, int) or session.protocol >= "2026":
        return
    deadline = time.monotonic() + settings["settle_s"]
    while counts.noted < sent and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    if counts.noted < sent:  # a stream given up in silence shows only here
        counts.missed(sent - counts.noted)


async def keep_one(settings: dict[str, Any], counts: Counts, source: str | None, stop: asyncio.Event) -> None:
    """Keep one session open until `stop`; when it is lost, count that and open another, as a user would."""
    tries = 0
    while not stop.is_set() and tries < settings["max_opens"]:
        tries += 1
        counts.new_session()
        opened = False
        try:
            async with open_session(settings, source, counts) as session:
                opened = True
                counts.tally["opened"] += 1
                tell("open", session=counts.number, slot=counts.slot, protocol=session.protocol, source=source)
                await use(settings, session, counts, stop)
        except Exception as error:  # noqa: BLE001  whatever ends a client is the finding
            kind = "lost" if opened else "error"
            counts.tally[kind] += 1
            tell(kind, session=counts.number, slot=counts.slot, why=reason(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), settings["reopen_after_s"])
    tell("closed", session=counts.number)


def reason(error: BaseException) -> str:
    """The innermost cause in one line."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:200]


async def work() -> None:
    """Read the settings, keep the sessions until stdin ends, print the summary."""
    loop = asyncio.get_running_loop()
    settings = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    stop = asyncio.Event()
    # Read on a thread until EOF: the parent closes the pipe to stop us, and its death closes it too.
    ended = loop.run_in_executor(None, sys.stdin.read)
    ended.add_done_callback(lambda _: stop.set())
    sources = settings["sources"] or [None]
    everyone = [Counts(number) for number in range(settings["count"])]
    tasks = []
    for counts in everyone:
        tasks.append(asyncio.create_task(keep_one(settings, counts, sources[counts.number % len(sources)], stop)))
        await asyncio.sleep(settings["stagger_s"])
    await asyncio.gather(*tasks)
    total: Counter[str] = sum((counts.tally for counts in everyone), Counter())
    tell("summary", sdk=SDK, mode=settings["mode"], slots=[c.slots for c in everyone], **total)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # the SDK's own log of a failure; ours is the event
    try:
        asyncio.run(work())
    except BrokenPipeError:
        os._exit(1)  # the parent is gone, and with it whoever would read more
