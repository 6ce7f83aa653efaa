"""The module front_certificate on a real HAProxy: what is served is what the file holds, and nobody notices."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.front_stand import REPOSITORY, FrontStand, Load, self_signed, wait_for
from tests.integration.test_front import Stream

PORT = 18170
NAME = "time.local.test"


@pytest.fixture(scope="module")
def one_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontStand]:
    with FrontStand(tmp_path_factory.mktemp("certificate"), PORT) as stand:
        stand.activate("blue")
        yield stand


@pytest.fixture
def stand(one_stand: FrontStand) -> FrontStand:
    """What is served is what the file holds."""
    renew(one_stand.state / "front.pem")
    assert module(one_stand)["changed"] is True
    return one_stand


def renew(path: Path) -> str:
    """Put a new certificate and key in place of the old one; return the certificate."""
    path.write_bytes(self_signed(NAME))
    return certificate_in(path)


def certificate_in(path: Path) -> str:
    text = path.read_text()
    return text[text.index("-----BEGIN CERT") : text.index("-----BEGIN PRIV")]


def served(stand: FrontStand) -> str:
    return ssl.get_server_certificate(("127.0.0.1", stand.port))


def module(stand: FrontStand, *, check: bool = False, fails: bool = False, **changes: Any) -> dict[str, Any]:
    """Run the module as Ansible does; return its answer."""
    arguments = {
        "admin_socket": str(stand.state / "admin.sock"),
        "file": stand.variables["front_certificate"],
        "addresses": stand.variables.get("front_addresses", ["127.0.0.1"]),
        "port": stand.port,
        "server_name": NAME,
        "timeout_s": 5,
        "_ansible_check_mode": check,
        **changes,
    }
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "plugins/modules/front_certificate.py")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer.get("failed", False) is fails, answer
    return answer


def test_a_renewed_certificate_is_served_and_no_connection_is_touched(stand: FrontStand) -> None:
    path, before = stand.state / "front.pem", served(stand)
    connection = stand.connection()
    connection.request("GET", "/mcp")
    assert connection.getresponse().read()
    local = connection.sock.getsockname()
    new = renew(path)
    with Stream(stand) as stream, Load(stand) as load:
        assert "was replaced; 127.0.0.1 serves another" in module(stand, act=False, fails=True)["msg"]
        told = module(stand, check=True)
        assert (told["changed"], told["reload"], served(stand)) == (True, False, before)

        told = module(stand)
        assert (told["changed"], told["reload"], served(stand)) == (True, False, new)
        assert told["differs"] == [f"{path} was replaced", "127.0.0.1 serves another"]
        assert stream.still_lives()
        connection.request("GET", "/mcp")
        assert connection.getresponse().read()
        assert connection.sock.getsockname() == local, "the same connection, not a new one"
        wait_for("the load went on", lambda: load.last_sent_to("blue"))
    connection.close()
    assert load.failed == []
    assert module(stand)["changed"] is False
    assert module(stand, check=True)["changed"] is False
    assert module(stand, act=False)["changed"] is False


@pytest.mark.parametrize("wrong", ["key of another", "no certificate", "no file", "too long"])
def test_a_file_that_is_wrong_leaves_the_old_one_served(stand: FrontStand, wrong: str) -> None:
    path, before = stand.state / "front.pem", served(stand)
    if wrong == "no file":
        path.unlink()
    elif wrong == "no certificate":
        path.write_text("see the vault\n")
    else:
        renew(path)
        text, other = path.read_text(), self_signed(NAME).decode()
        key = other[other.index("-----BEGIN PRIV") :]
        path.write_text(certificate_in(path) + key if wrong == "key of another" else text + 50 * text)
    assert module(stand, check=True)["changed"] is True, "what would write a right one has only checked, too"
    message = module(stand, fails=True)["msg"]
    assert str(path) in message
    assert "PRIVATE" not in message
    assert served(stand) == before
    assert module(stand, act=False, fails=True)

    new = renew(path)
    assert module(stand)["changed"] is True
    assert served(stand) == new


def test_what_people_write_into_the_file_does_no_harm(stand: FrontStand) -> None:
    path = stand.state / "front.pem"
    new = renew(path)
    path.write_text("subject=/CN=x\n\n" + path.read_text().replace("-----BEGIN PRIV", "\n\nthe key:\n-----BEGIN PRIV"))
    assert module(stand)["changed"] is True
    assert served(stand) == new


def test_a_socket_path_longer_than_an_address(stand: FrontStand) -> None:
    deep = stand.state / ("d" * 100)
    deep.mkdir()
    (deep / "admin.sock").symlink_to(stand.state / "admin.sock")
    assert module(stand, admin_socket=str(deep / "admin.sock"))["changed"] is False


def test_a_front_that_does_not_run_is_not_called_right(stand: FrontStand) -> None:
    stand.stop_proxy()
    try:
        assert module(stand, check=True)["changed"] is False, "it will read the file when it is started"
        for act in (True, False):
            assert "nobody answers" in module(stand, act=act, fails=True, timeout_s=1)["msg"]
        assert "nobody answers" in module(stand, act=False, check=True, fails=True, timeout_s=1)["msg"]
    finally:
        stand.start_proxy()


def test_another_process_on_the_port_is_told(stand: FrontStand) -> None:
    """The proxy holds what the file says, and the clients of the address see something else."""
    with FrontStand(stand.state.parent, PORT + 5, state=stand.state / "other") as other:
        message = module(stand, fails=True, port=other.port)["msg"]
    assert "another process" in message


def test_each_address_is_looked_at(stand: FrontStand) -> None:
    message = module(stand, fails=True, addresses=["127.0.0.1", "[::1]"])["msg"]
    assert f"no TLS connection to [::1] port {PORT}" in message


def test_a_directory_of_certificates(tmp_path: Path) -> None:
    directory = tmp_path / "certificates"
    directory.mkdir()
    first = renew(directory / "a.pem")
    renew(directory / "b.pem")
    (directory / ".b.pem.swp").write_text("no certificate")
    with FrontStand(tmp_path, PORT + 10, front_certificate=str(directory)) as stand:
        assert module(stand)["changed"] is False
        renew(directory / "b.pem")
        told = module(stand)
        assert (told["differs"], told["reload"]) == ([f"{directory}/b.pem was replaced"], False)
        first = renew(directory / "a.pem")
        assert module(stand)["changed"] is True
        assert served(stand) == first
        assert module(stand)["changed"] is False

        renew(directory / "c.pem")
        told = module(stand)
        assert (told["differs"], told["reload"]) == ([f"{directory}/c.pem was not loaded"], True)
        assert module(stand, act=False, fails=True)
        assert stand.proxy is not None
        stand.proxy.send_signal(signal.SIGUSR2)
        wait_for("the reloaded proxy has it", lambda: module(stand)["changed"] is False, 20)
        (directory / "c.pem").unlink()
        assert module(stand)["differs"] == [f"{directory}/c.pem is gone and still loaded"]
