"""The static facts of a service on this host: service.json, written by the role `front`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpops.hostside.state import EXIT_USAGE, SLOTS, HostError, not_set_up, read_json

if TYPE_CHECKING:
    from mcpops.hostside.state import Context

# How long the proxy remembers a session after its last request, where service.json does not say.
SESSION_IDLE_S = 60
MAPS = ("active", "slots", "preview")


@dataclass(frozen=True)
class Address:
    """Where a slot listens."""

    address: str
    port: int


@dataclass(frozen=True)
class Service:
    """What service.json says. `facts` is the whole object, for the drivers' own parts."""

    name: str
    mcp_path: str
    admin_socket: Path
    maps: dict[str, Path]
    slots: dict[str, Address]
    driver: str
    front_url: str
    server_name: str
    cafile: str | None
    session_idle_s: int
    facts: dict[str, Any]


def load_service(context: Context) -> Service:
    """Read service.json.

    Raises HostError `not_set_up` (exit 2) when there is none, `bad_service` (exit 2) when a key is missing or wrong.
    """
    facts = read_json(context.path("service.json"))
    if facts is None:
        raise not_set_up(context, "no service.json")
    try:
        return Service(
            name=str(facts["service"]),
            mcp_path=str(facts["mcp_path"]),
            admin_socket=Path(facts["admin_socket"]),
            maps={name: Path(facts["maps"][name]) for name in MAPS},
            slots={
                slot: Address(str(facts["slots"][slot]["address"]), int(facts["slots"][slot]["port"])) for slot in SLOTS
            },
            driver=str(facts["driver"]),
            front_url=str(facts["front_url"]),
            server_name=str(facts["server_name"]),
            cafile=facts.get("cafile"),
            session_idle_s=int(facts.get("session_idle_s", SESSION_IDLE_S)),
            facts=facts,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise HostError(
            "bad_service",
            f"{context.path('service.json')} lacks something or has it wrong",
            detail=repr(error),
            hint="run the role `front` again",
            exit_code=EXIT_USAGE,
        ) from error
