"""Stub of mcpops.tls.ca until that is there: a certificate authority in a directory."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class CertificateAuthority:
    """A key and a self-signed certificate in `directory`."""

    directory: Path

    @property
    def certificate(self) -> Path:
        """The file to trust."""
        return self.directory / "ca.crt"

    @classmethod
    def ensure(cls, directory: Path, cn: str) -> CertificateAuthority:
        """Return the authority in `directory`, made if it is not there."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = cls(directory)
        if not made.certificate.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)])
            built = _builder(name, name, key, 365).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            _private(directory / "ca.key", key)
            made.certificate.write_bytes(_pem(built.sign(key, hashes.SHA256())))
        return made

    def issue(self, name: str, sans: Sequence[str], directory: Path) -> Issued:
        """Write NAME.crt and NAME.key for names and addresses."""
        ca = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        ca_key = serialization.load_pem_private_key((self.directory / "ca.key").read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)  # noqa: S101
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = _builder(subject, ca.subject, key, 90).add_extension(
            x509.SubjectAlternativeName([_san(san) for san in sans]), False
        )
        issued = Issued(directory / f"{name}.crt", directory / f"{name}.key")
        _private(issued.key, key)
        issued.certificate.write_bytes(_pem(built.sign(ca_key, hashes.SHA256())))
        return issued


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _san(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(pem)
