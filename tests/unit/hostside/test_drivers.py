"""What drivers write: program files that supervisord reads as meant, and compose files that allow little."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from supervisor.options import ServerOptions

from mcpops.hostside.container_driver import compose
from mcpops.hostside.drivers import Place, argv_of, failed_command, holder_of, key_of, require_free_port
from mcpops.hostside.process_driver import program_text, require_digests, run_script
from mcpops.hostside.state import HostError

NASTY = ["--port={port}", 'it\'s "100%" $HOME', "{other}", "a ;b #c", "%(here)s %(ENV_HOME)s", "two\nlines", "`id`", ""]
GREETING = '100% it\'s "$HOME" ; # {port} %(here)s\n`id`'
# What a release is in these tests: it writes down how it was called.
TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"


def release(**changes: Any) -> dict[str, Any]:
    return {
        "name": "r-1",
        "digest": "sha256:0123456789abcdef9999",
        "artifact": {"kind": "image", "image": "registry:5000/time@sha256:00"},
        "command": ["python3", "-c", TELL, *NASTY],
        "environment": {"GREETING": GREETING},
        "health_path": "/status",
        "stop_timeout_s": 7,
        "limits": {"memory": "256m", "cpus": 0.5, "pids": 128},
        **changes,
    }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("time", "blue", "127.0.0.1", 18290, tmp_path / "slots/blue")


def read_by_supervisord(tmp_path: Path, text: str) -> Any:
    (tmp_path / "program.conf").write_text(text)
    config = tmp_path / "supervisord.conf"
    config.write_text(f"[supervisord]\n[include]\nfiles={tmp_path}/program.conf\n")
    options = ServerOptions()
    options.realize(["-c", str(config)])
    (group,) = options.process_group_configs
    return group.process_configs[0]


def test_what_runs_gets_exactly_what_the_release_says(place, tmp_path):
    given = release()
    home = place.home(given)
    home.mkdir(parents=True)
    (home / "run").write_text(run_script(place, given))
    (home / "run").chmod(0o700)
    seen = read_by_supervisord(tmp_path, program_text(place, given))
    assert (seen.directory, seen.stopwaitsecs, seen.autostart) == (str(home), 7, True)
    done = subprocess.run(shlex.split(seen.command), cwd=seen.directory, capture_output=True, check=True)
    argv, environment, directory = json.loads(done.stdout)
    assert argv == ["--port=18290", *NASTY[1:]]
    assert environment["GREETING"] == GREETING
    assert environment["PATH"].startswith(f"{home}/venv/bin:")
    assert directory == str(home)


def test_compose_expands_nothing_and_allows_little(place):
    service = compose(place, release())["services"]["mcp"]
    assert service["entrypoint"] == ["python3"]
    assert service["command"][2:4] == ["--port=8000", 'it\'s "100%" $$HOME']
    assert service["environment"]["GREETING"] == GREETING.replace("$", "$$")
    assert service["ports"] == ["127.0.0.1:18290:8000"]
    assert (service["read_only"], service["cap_drop"], service["user"]) == (True, ["ALL"], "10001:10001")
    assert service["memswap_limit"] == service["mem_limit"] == "256m"
    assert compose(Place("time", "blue", "::1", 1, place.directory), release())["services"]["mcp"]["ports"] == [
        "[::1]:1:8000"
    ]


def test_only_our_placeholders_are_filled_in(place):
    words = argv_of(release(command=["{slot}", "{files}/x", '{"a": {"b": 1}}']), place, "h", 1, "/home")
    assert words == ["blue", "/home/x", '{"a": {"b": 1}}']


def test_a_release_has_a_directory_of_its_digest():
    assert key_of(release()) == "0123456789abcdef"


def test_digests_are_compared(place):
    with pytest.raises(HostError) as caught:
        require_digests({"a.lock": "00"}, {"a.lock": "text"})
    assert caught.value.name == "wrong_digest"
    with pytest.raises(HostError) as caught:
        require_digests({"a.lock": "00"}, {})
    assert caught.value.name == "missing_file"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_in_use_names_its_holder(place, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 18291), family=family):
        assert holder_of(18291).startswith(f"pid {os.getpid()} (")
        with pytest.raises(HostError) as caught:
            require_free_port(Place("time", "blue", address, 18291, place.directory))
    assert (caught.value.name, f"pid {os.getpid()}" in caught.value.detail) == ("port_in_use", True)
    require_free_port(Place("time", "blue", address, 18291, place.directory))
    assert holder_of(18291) == ""


@pytest.mark.parametrize("said", ["write: No space left on device", "failed (os error 28)", "Disk quota exceeded"])
def test_a_full_disk_is_called_that(said):
    assert failed_command("x", "m", subprocess.CompletedProcess([], 1, "", said)).name == "disk_full"
    assert failed_command("x", "m", subprocess.CompletedProcess([], 1, "other", "")).name == "x"
