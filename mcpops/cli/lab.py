"""`mcpops lab up|down|status`: real test hosts on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mcpops.cli.common import Session, common_options
from mcpops.cli.project import find_project

if TYPE_CHECKING:
    from mcpops.lab.ecosystem import Ecosystem

_NAME = click.option("--name", default="lab", show_default=True, metavar="NAME", help="The lab, and its environment.")


@click.group()
def lab() -> None:
    """Real test hosts on this machine: two fronts, a registry, and a place outside them.

    Debian hosts with systemd, sshd, UFW and Docker, each in a network namespace of its own, IPv4 and IPv6. Needs
    root on Debian.

    Exit status: 0 done; 1 something could not be built or started; 2 bad name; 4 another process works on this lab;
    9 not root.
    """


@lab.command()
@_NAME
@common_options
@click.pass_obj
def up(session: Session, name: str) -> None:
    """Bring the lab up, and write its inventory and releases into the project. Repeating it is safe."""
    found = _ecosystem(session, name).up()
    session.report(found, f"{_text(found)}\nnext: mcpops deploy {found['releases'][0]} -e {name}")


@lab.command()
@_NAME
@common_options
@click.pass_obj
def down(session: Session, name: str) -> None:
    """End the lab: no process, mount, namespace, cgroup or interface of it stays. The caches stay."""
    ecosystem = _ecosystem(session, name)
    ecosystem.down()
    found = ecosystem.status()
    session.report(found, _text(found))


@lab.command()
@_NAME
@common_options
@click.pass_obj
def status(session: Session, name: str) -> None:
    """Show which hosts run, and how to reach them."""
    found = _ecosystem(session, name).status()
    session.emit(found, _text(found))


def _ecosystem(session: Session, name: str) -> Ecosystem:
    from mcpops.lab.ecosystem import Ecosystem  # noqa: PLC0415 - --help needs none of it
    from mcpops.lab.lab import Lab  # noqa: PLC0415

    return Ecosystem(Lab(name, say=session.say), find_project(session), session.say)


def _text(found: dict[str, Any]) -> str:
    lines = [f"lab {found['name']}: {found['state']}"]
    lines += [f"  {host['name']:<10} {host['state']:<8} {host['ipv4']:<12} {host['ipv6']}" for host in found["hosts"]]
    if found["hosts"]:
        lines += [
            f"log in:  ssh -F {found['directory']}/ssh_config {found['hosts'][0]['name']}",
            f"outside: ip netns exec {found['namespace']} COMMAND",
        ]
    return "\n".join(lines)
