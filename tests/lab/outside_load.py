"""Traffic from outside the hosts: a program that the tests run inside the lab's namespace.

    ip netns exec lab-NAME-out python -m tests.lab.outside_load '{"cafile": …, "endpoints": [{"front", "host", …}]}'

Sends to every front in both address families at once, until its standard input ends; then prints every request as
one JSON object. It never retries, so what it counts as failed a client would have seen.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from demo.http1 import Endpoint
from demo.traffic import Plan, Report, Traffic, get, ping_without_session


def plan_of(given: dict[str, Any], endpoint: dict[str, Any]) -> Plan:
    """Return the load on one front in one address family: GET and POST in turn, each client with its own address."""
    where = Endpoint.of(endpoint["host"], 443, given["server_name"], Path(given["cafile"]))
    return Plan(
        endpoint=where,
        shapes=(get("/status"), ping_without_session()),
        rate_per_s=given["rate_per_s"],
        sources=tuple(endpoint["sources"]),
        timeout_s=given["timeout_s"],
    )


async def load(given: dict[str, Any]) -> list[Report]:
    """Send until standard input ends; say `ready` once every endpoint has answered, or failed, once."""
    loads = [Traffic(plan_of(given, endpoint)) for endpoint in given["endpoints"]]
    for traffic in loads:
        traffic.start()
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not ended.done() and any(traffic.sent == 0 for traffic in loads):
        await asyncio.sleep(0.02)
    print("ready", flush=True)
    await ended
    return [await traffic.stop() for traffic in loads]


def main() -> None:
    """Run until standard input ends, then print the samples."""
    given = json.loads(sys.argv[1])
    reports = asyncio.run(load(given))
    rows = [
        {"front": endpoint["front"], "family": endpoint["family"], **asdict(sample)}
        for endpoint, report in zip(given["endpoints"], reports, strict=True)
        for sample in report.samples
    ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
