"""The private authority: what it issues, when it issues again, and what it refuses."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mcpops.core.errors import UsageError
from mcpops.tls.ca import CertificateAuthority

NAMES = ["time.local.test", "127.0.0.1", "::1"]


class StoppedClock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic_s(self) -> float:
        return 0.0


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock(datetime.now(UTC))


@pytest.fixture
def authority(tmp_path: Path, clock: StoppedClock) -> CertificateAuthority:
    return CertificateAuthority.ensure(tmp_path / "ca", "test CA", clock)


def test_private_files_are_private(authority, tmp_path):
    issued = authority.issue("front", NAMES, tmp_path)
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in (authority.directory / "ca.key", issued.key, issued.combined)
    }
    assert set(modes.values()) == {0o600}
    assert authority.directory.stat().st_mode & 0o777 == 0o700
    assert b"PRIVATE" not in issued.chain.read_bytes() + issued.cert.read_bytes() + authority.cafile.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_trusts_the_authority_accepts_it(authority, tmp_path, name):
    issued = authority.issue("front", NAMES, tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(issued.combined)
    client = ssl.create_default_context(cafile=authority.cafile)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    near, far = socket.socketpair()
    with near, far:
        thread = threading.Thread(target=lambda: server.wrap_socket(far, server_side=True).close())
        thread.start()
        with client.wrap_socket(near, server_hostname=name) as tls:
            assert tls.getpeercert()
        thread.join(5)


def test_a_repeat_changes_nothing(authority, tmp_path, clock):
    first = authority.issue("front", NAMES, tmp_path)
    before = first.combined.read_bytes()
    again = CertificateAuthority.ensure(authority.directory, "another name", clock)
    second = again.issue("front", list(reversed(NAMES)), tmp_path)
    assert (first.changed, first.reason, second.changed, again.created) == (True, "absent", False, False)
    assert second.combined.read_bytes() == before


def test_it_is_renewed_after_two_thirds_of_its_life(authority, tmp_path, clock):
    authority.issue("front", NAMES, tmp_path, days=90)
    clock.at += timedelta(days=59)
    assert not authority.issue("front", NAMES, tmp_path).changed
    clock.at += timedelta(days=2)
    assert authority.issue("front", NAMES, tmp_path).reason == "expiring"


def test_who_only_looks_writes_nothing_and_says_the_same(authority, tmp_path, clock):
    issued = authority.issue("front", NAMES, tmp_path)
    before = issued.combined.read_bytes()
    for days, reason in ((0, ""), (61, "expiring")):
        clock.at += timedelta(days=days)
        looking = CertificateAuthority.ensure(authority.directory, "test CA", clock, writes=False)
        would = looking.issue("front", NAMES, tmp_path)
        assert (would.changed, would.reason, looking.created) == (bool(reason), reason, False)
        assert issued.combined.read_bytes() == before
    assert CertificateAuthority.ensure(tmp_path / "new", "new CA", clock, writes=False).created
    assert not (tmp_path / "new").exists()


def test_other_names_are_another_certificate(authority, tmp_path):
    authority.issue("front", NAMES, tmp_path)
    assert authority.issue("front", [*NAMES, "new.test"], tmp_path).reason == "other names"


@pytest.mark.parametrize("kind", ["key", "crt", "chain.crt", "pem"])
def test_a_missing_file_is_made_again(authority, tmp_path, kind):
    authority.issue("front", NAMES, tmp_path)
    (tmp_path / f"front.{kind}").unlink()
    assert authority.issue("front", NAMES, tmp_path).reason == "absent"


def test_a_damaged_or_foreign_certificate_is_replaced(authority, tmp_path, clock):
    issued = authority.issue("front", NAMES, tmp_path)
    issued.combined.write_bytes(issued.combined.read_bytes()[:200])
    assert "not usable" in authority.issue("front", NAMES, tmp_path).reason
    other = CertificateAuthority.ensure(tmp_path / "other", "other CA", clock)
    assert "not usable" in other.issue("front", NAMES, tmp_path).reason


def test_a_key_of_another_certificate_is_noticed(authority, tmp_path):
    one, two = authority.issue("one", NAMES, tmp_path), authority.issue("two", NAMES, tmp_path)
    one.combined.write_bytes(one.chain.read_bytes() + two.key.read_bytes())
    assert "do not belong together" in authority.issue("one", NAMES, tmp_path).reason


def test_a_damaged_authority_is_never_replaced(authority, tmp_path):
    for victim in ("ca.key", "ca.crt"):
        path = authority.directory / victim
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(UsageError, match="damaged"):
            CertificateAuthority.ensure(authority.directory, "test CA")
        path.write_bytes(whole)
    other = CertificateAuthority.ensure(tmp_path / "other", "other CA")
    (authority.directory / "ca.key").write_bytes((other.directory / "ca.key").read_bytes())
    with pytest.raises(UsageError) as caught:
        CertificateAuthority.ensure(authority.directory, "test CA")
    assert "is not the key of" in caught.value.detail


@pytest.mark.parametrize("bad", ["", "a b", "host:443", "https://x", "a..b", "ü.test", "-" * 254])
def test_a_name_that_is_none_is_refused(authority, tmp_path, bad):
    with pytest.raises(UsageError):
        authority.issue("front", [bad], tmp_path)
    assert not (tmp_path / "front.pem").exists()


def test_the_authority_signs_servers_and_no_authorities(authority, tmp_path):
    issued = x509.load_pem_x509_certificate(authority.issue("front", NAMES, tmp_path).cert.read_bytes())
    basic = x509.BasicConstraints
    assert issued.extensions.get_extension_for_class(basic).value.ca is False
    assert authority.certificate.extensions.get_extension_for_class(basic).value.path_length == 0
