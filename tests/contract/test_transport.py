"""One contract for every way to a host: local processes and SSH give the same Channel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from mcpops.core.errors import ExitCode
from mcpops.model.target import Target
from mcpops.remote.channel import Channel, Unreachable
from mcpops.remote.fleet import Fleet
from mcpops.remote.transport import TRANSPORTS
from tests.integration.rollback_stand import SSHD, Sshd

PORT = 18690
SCRIPT = Path(__file__).with_name("fake_hostside.py")
LOCAL = Target(
    name="h1",
    address="127.0.0.1",
    connection="local",
    python=sys.executable,
    hostside_path=str(SCRIPT),
    state_dir="/nonexistent",
)
CALL_S = 20.0


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if not Path(SSHD).exists():
        pytest.skip("not on this machine: sshd (apt-get install openssh-server)")
    with Sshd(tmp_path_factory.mktemp("sshd") / "s", PORT) as server:
        yield server


@pytest.fixture(params=["local", "ssh"])
def target(request: pytest.FixtureRequest) -> Target:
    return LOCAL if request.param == "local" else request.getfixturevalue("sshd").target(LOCAL)


@pytest.fixture
def channel(target: Target) -> Iterator[Channel]:
    opened = TRANSPORTS[target.connection].open(target, CALL_S)
    yield opened
    opened.close()


def wait_gone(pid: int) -> None:
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} is still there after 4 s")


def test_answers_in_order_from_one_process(channel: Channel) -> None:
    first = channel.call(["status", "--text", "two words, {braces} and $HOME"], CALL_S)
    second = channel.call(["status"], CALL_S)
    assert first.output["argv"] == ["status", "--text", "two words, {braces} and $HOME"]
    assert first.output["pid"] == second.output["pid"]
    assert first.exit == ExitCode.OK
    assert first.error == {}
    assert first.started_at_ns < first.ended_at_ns <= second.started_at_ns


def test_an_error_of_hostside_is_an_answer(channel: Channel) -> None:
    answer = channel.call(["refuse"], CALL_S)
    assert (answer.exit, answer.error["name"]) == (9, "stale")


def test_a_deadline_is_kept_and_the_late_answer_is_not_the_next_ones(channel: Channel) -> None:
    channel.call(["status"], CALL_S)
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"h1: no answer within 0\.2 s"):
        channel.call(["sleep", "0.6"], 0.2)
    assert time.monotonic() - began < 0.5
    assert channel.call(["status", "next"], CALL_S).output["argv"] == ["status", "next"]


def test_the_far_end_dies(channel: Channel) -> None:
    with pytest.raises(Unreachable, match="h1: the channel ended") as caught:
        channel.call(["die"], CALL_S)
    assert "the host says goodbye" in caught.value.detail
    assert caught.value.code is ExitCode.UNKNOWN
    with pytest.raises(Unreachable):
        channel.call(["status"], CALL_S)


def test_what_answers_is_not_hostside(channel: Channel) -> None:
    with pytest.raises(Unreachable, match="not hostside") as caught:
        channel.call(["garbage"], CALL_S)
    assert "Welcome" in caught.value.detail


def test_close_ends_the_far_process_and_may_be_repeated(channel: Channel) -> None:
    pid = channel.call(["status"], CALL_S).output["pid"]
    channel.close()
    channel.close()
    wait_gone(pid)


def test_nothing_outlives_this_end(target: Target) -> None:
    code = (
        "import sys; from mcpops.model.target import Target; from mcpops.remote.transport import TRANSPORTS\n"
        f"target = {target!r}\n"
        "channel = TRANSPORTS[target.connection].open(target, 20)\n"
        "print(channel.call(['status'], 20).output['pid'], flush=True); sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    wait_gone(pid)


def test_hostside_is_not_there(target: Target) -> None:
    with Fleet.open([replace(target, hostside_path="/nonexistent/hostside.pyz")], CALL_S) as fleet:
        assert not fleet.channels
        assert "role `hostside`" in fleet.errors["h1"].hint


def test_python_is_not_there(target: Target) -> None:
    with Fleet.open([replace(target, python="/nonexistent/python3")], CALL_S) as fleet:
        error = fleet.errors["h1"]
    assert "/nonexistent/python3" in error.message + error.detail
    assert error.hint


def test_a_fleet_opens_all_at_once_and_names_who_is_missing(target: Target) -> None:
    targets = [replace(target, name=f"h{n}") for n in range(3)]
    targets.append(replace(target, name="gone", hostside_path="/nonexistent/hostside.pyz"))
    with Fleet.open(targets, CALL_S) as fleet:
        assert list(fleet.channels) == ["h0", "h1", "h2"]
        assert list(fleet.greetings) == ["h0", "h1", "h2"]
        assert list(fleet.errors) == ["gone"]
        said = fleet.call_all({"h2": ["status"], "gone": ["status"]}, CALL_S)
        assert isinstance(said["gone"], Unreachable)
        began = time.monotonic()
        fleet.call_all({host: ["sleep", "0.3"] for host in fleet.channels}, CALL_S)
        assert time.monotonic() - began < 0.8


def test_a_fleet_does_not_wait_for_the_dead_beyond_its_time(target: Target, tmp_path: Path) -> None:
    hanging = tmp_path / "hangs.py"
    hanging.write_text("import time; time.sleep(60)\n")
    began = time.monotonic()
    with Fleet.open([target, replace(target, name="dead", hostside_path=str(hanging))], 2.0) as fleet:
        assert list(fleet.channels) == ["h1"]
        assert "no answer within 2 s" in str(fleet.errors["dead"])
    assert time.monotonic() - began < 6


def test_whoever_is_in_a_hurry_gives_up_the_silent_once_another_answered(target: Target, tmp_path: Path) -> None:
    hanging = tmp_path / "hangs.py"
    hanging.write_text("import time; time.sleep(60)\n")
    dead = replace(target, name="dead", hostside_path=str(hanging))
    slow = tmp_path / "slow.py"
    slow.write_text("import time; time.sleep(1.5)\n" + SCRIPT.read_text())
    with Fleet.start([target, dead], CALL_S) as fleet:
        began = time.monotonic()
        fleet.greet(CALL_S, quick_s=1.2)
        assert time.monotonic() - began < 2.0
        assert (list(fleet.channels), list(fleet.errors)) == (["h1"], ["dead"])
    with Fleet.start([replace(target, hostside_path=str(slow))], CALL_S) as fleet:
        fleet.greet(CALL_S, quick_s=0.5)
        assert (list(fleet.greetings), list(fleet.errors)) == (["h1"], [])


def test_ssh_refuses_an_unknown_host_key_and_adds_nothing(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    with Fleet.open([replace(sshd.target(LOCAL), known_hosts_file=str(known))], CALL_S) as fleet:
        error = fleet.errors["h1"]
    assert "not known" in error.hint
    assert "known_hosts" in error.hint
    assert known.read_text() == ""


def test_ssh_refuses_a_changed_host_key(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    other = (sshd.directory / "other_key.pub").read_text().split()
    known.write_text(f"[127.0.0.1]:{sshd.port} {other[0]} {other[1]}\n")
    with Fleet.open([replace(sshd.target(LOCAL), known_hosts_file=str(known))], CALL_S) as fleet:
        assert "changed" in fleet.errors["h1"].hint


def test_ssh_with_a_key_that_the_host_does_not_accept(sshd: Sshd) -> None:
    wrong = replace(sshd.target(LOCAL), private_key_file=str(sshd.directory / "other_key"))
    with Fleet.open([wrong], CALL_S) as fleet:
        assert "does not accept this key" in fleet.errors["h1"].hint


def test_ssh_with_no_sshd(sshd: Sshd) -> None:
    with Fleet.open([replace(sshd.target(LOCAL), port=PORT + 1)], CALL_S) as fleet:
        error = fleet.errors["h1"]
    assert "Connection refused" in error.detail
    assert "sshd is not" in error.hint


def test_ssh_takes_port_key_and_known_hosts_from_an_ssh_config(sshd: Sshd, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host front-one\n  HostName 127.0.0.1\n  Port {sshd.port}\n  IdentityFile {sshd.directory}/key\n"
        f"  UserKnownHostsFile {sshd.directory}/known_hosts\n"
    )
    named = replace(
        sshd.target(LOCAL),
        address="front-one",
        port=22,
        private_key_file=None,
        known_hosts_file=None,
        ssh_config_file=str(config),
    )
    with Fleet.open([named], CALL_S) as fleet:
        assert list(fleet.channels) == ["h1"], fleet.errors


def test_ssh_goes_the_way_that_an_ssh_config_says(sshd: Sshd, tmp_path: Path) -> None:
    marker, config = tmp_path / "was_here", tmp_path / "ssh_config"
    config.write_text(f"Host *\n  ProxyCommand touch {marker}; exit 1\n")
    with Fleet.open([replace(sshd.target(LOCAL), ssh_config_file=str(config))], CALL_S) as fleet:
        assert "h1" in fleet.errors
    assert marker.exists()


def test_ssh_to_a_name_that_does_not_resolve(sshd: Sshd) -> None:
    with Fleet.open([replace(sshd.target(LOCAL), address="no-such-host.invalid")], CALL_S) as fleet:
        assert "does not resolve" in fleet.errors["h1"].hint


def test_an_ssh_client_that_is_killed_leaves_no_relay(sshd: Sshd) -> None:
    """Nothing of a connection outlives it: the relay ends with the client, and hostside with both."""
    channel = TRANSPORTS["ssh"].open(sshd.target(LOCAL), CALL_S)
    pid = channel.call(["status"], CALL_S).output["pid"]
    client = channel._process.pid  # type: ignore[attr-defined]
    [relay] = [int(p.parent.name) for p in Path("/proc").glob("[0-9]*/stat") if _parent(p) == client]
    os.kill(client, signal.SIGKILL)
    wait_gone(relay)
    wait_gone(pid)
    channel.close()


def _parent(stat: Path) -> int:
    with suppress(OSError):
        return int(stat.read_text().rsplit(")", 1)[1].split()[1])
    return 0


def test_no_secret_in_the_arguments_of_ssh(sshd: Sshd, channel: Channel) -> None:
    """What is asked goes through stdin: a token never stands in a process list."""
    del sshd
    channel.call(["status", "a-token-to-find"], CALL_S)
    seen = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            seen += path.read_bytes()
    assert b"fake_hostside.py" in seen
    assert b"a-token-to-find" not in seen
