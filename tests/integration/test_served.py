"""What a client on this machine says of a certificate that a real TLS server serves."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mcpops.core.clock import SystemClock
from mcpops.tls.ca import CertificateAuthority
from mcpops.tls.served import look

NAME = "time.local.test"


@contextmanager
def serving(combined: Path) -> Iterator[str]:
    """A server on a free port of loopback; yields its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(combined)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):  # a client that hangs up, and the end of the test
                context.wrap_socket(listening.accept()[0], server_side=True).close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    thread.join(5)


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.ensure(tmp_path / "ca", "test CA", SystemClock())


def test_the_days_that_are_left_are_told(authority: CertificateAuthority, tmp_path: Path) -> None:
    with serving(authority.issue("front", [NAME], tmp_path, days=30).combined) as url:
        seen = look(url, NAME, authority.cafile.read_text(), 5)
    assert (seen.name, seen.url, seen.accepted, seen.error) == (NAME, url, True, None)
    assert seen.days_left(datetime.now(UTC)) == 29


@pytest.mark.parametrize(
    ("days", "name", "said"),
    [(0, NAME, "expired"), (30, "other.test", "match"), (30, "", "self-signed certificate in certificate chain")],
)
def test_what_no_client_accepts_has_no_days(
    authority: CertificateAuthority, tmp_path: Path, days: int, name: str, said: str
) -> None:
    other = CertificateAuthority.ensure(tmp_path / "other", "another CA", SystemClock())
    trusted = authority if name else other
    with serving(authority.issue("front", [NAME], tmp_path, days=days).combined) as url:
        seen = look(url, name or NAME, trusted.cafile.read_text(), 5)
    assert (seen.accepted, seen.days_left(datetime.now(UTC))) == (False, None)
    assert said in (seen.error or ""), seen


@pytest.mark.parametrize(
    ("url", "ca_pem", "said"),
    [
        ("https://127.0.0.1:9", None, "refused"),
        ("https://127.0.0.1:9", "no PEM", "does not contain a certificate"),
        ("https://[::1", None, "Invalid IPv6 URL"),
    ],
)
def test_what_was_not_seen_is_not_called_bad(url: str, ca_pem: str | None, said: str) -> None:
    seen = look(url, NAME, ca_pem, 1)
    assert (seen.accepted, seen.not_after) == (None, None)
    assert said in (seen.error or ""), seen
