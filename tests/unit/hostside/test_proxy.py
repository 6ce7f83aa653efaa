"""What the proxy says of a server, and what it only assumes. Columns and words of HAProxy 2.6 and 2.8."""

from __future__ import annotations

import pytest

from mcpops.hostside.activation import _seen
from mcpops.hostside.proxy import ServerRow, _servers

HEADER = "# pxname,svname,status,check_status,scur,hrsp_5xx,econ,eresp,wredis"


def row(status: str, check: str) -> ServerRow:
    return _servers(f"{HEADER}\nslot_blue,blue,{status},{check},0,,,,\n")["slot_blue", "blue"]


@pytest.mark.parametrize(
    ("status", "check", "down", "checked", "seen"),
    [
        ("UP", "INI", False, False, "no health check has ended"),
        ("UP", "* INI", False, False, "no health check has ended"),  # the first one runs
        ("UP", "L7OK", False, True, "status UP"),
        ("UP", "* L7TOUT", False, True, "status UP"),  # and the next one runs
        ("UP 1/2", "L7TOUT", False, True, "status UP 1/2"),
        ("DOWN", "L4CON", True, True, "status DOWN"),
        ("no check", "", False, False, "no health check has ended"),
    ],
)
def test_up_is_an_assumption_until_a_check_has_ended(status, check, down, checked, seen):
    found = row(status, check)
    assert (found.down, found.checked, _seen(found)) == (down, checked, seen)
