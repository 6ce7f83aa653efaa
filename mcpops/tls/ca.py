"""A small private certificate authority for names inside an environment: ECDSA P-256, one directory, no daemon.

`CertificateAuthority.ensure` makes or opens it; `issue` makes a certificate, and again only when the one that is there
is absent, past two thirds of its life, for other names, or not of this authority and key.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mcpops.core.clock import Clock, SystemClock
from mcpops.core.errors import UsageError
from mcpops.core.files import write_atomic

CA_DAYS = 3650
RENEW_AT = 2 / 3  # of the lifetime, as ACME clients do: leaves a third for whatever goes wrong
BACKDATE = timedelta(minutes=5)  # hosts whose clocks are a little behind must not refuse a new certificate
PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class IssuedCertificate:
    """The files of a certificate. `combined` (chain and key, 0600) is what HAProxy reads; `key` is 0600 too."""

    key: Path
    cert: Path
    chain: Path
    combined: Path
    not_after: datetime
    changed: bool
    reason: str


@dataclass(frozen=True)
class CertificateAuthority:
    """An authority and its key. The key stays in `directory` and in memory. Without `writes` nothing is written."""

    directory: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    clock: Clock
    created: bool
    writes: bool = True

    @classmethod
    def ensure(cls, directory: Path, common_name: str, clock: Clock | None = None, *, writes: bool = True) -> Self:
        """Open the authority in `directory` (`ca.crt`, `ca.key`), or make it when neither is there.

        Raises UsageError when one of the two is missing or they do not belong together: a new authority in place of a
        damaged one would silently break everybody who trusts the old one.
        """
        clock = clock or SystemClock()
        key_file, cert_file = directory / "ca.key", directory / "ca.crt"
        if key_file.exists() or cert_file.exists():
            certificate, key = _open(cert_file, key_file)
            return cls(directory, certificate, key, clock, created=False, writes=writes)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _self_signed(common_name, key, clock.now())
        if writes:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(key_file, _pem(key))
            write_atomic(cert_file, certificate.public_bytes(PEM).decode(), mode=0o644)
        return cls(directory, certificate, key, clock, created=True, writes=writes)

    @property
    def cafile(self) -> Path:
        """The authority's certificate, for those who shall trust it."""
        return self.directory / "ca.crt"

    def issue(self, name: str, sans: Sequence[str], directory: Path, days: int = 90) -> IssuedCertificate:
        """Have a certificate for `sans` (DNS names and IP addresses) in `directory/<name>.*`.

        Raises UsageError for a name that is neither a DNS name nor an address, or when there is none.
        """
        names = [_general_name(san) for san in sans]
        if not names:
            raise UsageError(f"the certificate {name} has no names", hint="give at least one DNS name or IP address")
        files = {kind: directory / f"{name}.{kind}" for kind in ("key", "crt", "chain.crt", "pem")}
        reason, certificate = self._why_new(list(files.values()), names)
        if certificate is None:
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = self._sign(sans[0], names, key, days)
            if self.writes:
                self._write(files, certificate, key)
        return IssuedCertificate(
            key=files["key"],
            cert=files["crt"],
            chain=files["chain.crt"],
            combined=files["pem"],
            not_after=certificate.not_valid_after_utc,
            changed=bool(reason),
            reason=reason,
        )

    def _write(self, files: Mapping[str, Path], certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        """Write the files of a certificate."""
        # The old pair stays in force until its own file is replaced; `.pem` holds both halves and goes last.
        chain = certificate.public_bytes(PEM).decode() + self.certificate.public_bytes(PEM).decode()
        write_atomic(files["key"], _pem(key))
        write_atomic(files["crt"], certificate.public_bytes(PEM).decode(), mode=0o644)
        write_atomic(files["chain.crt"], chain, mode=0o644)
        write_atomic(files["pem"], chain + _pem(key))

    def _why_new(self, files: list[Path], names: list[x509.GeneralName]) -> tuple[str, x509.Certificate | None]:
        """Return why a new certificate is needed (empty: it is not), and the old one if it may stay."""
        if not all(path.exists() for path in files):
            return "absent", None
        try:
            # `.pem` is what is served: if it is whole and right, the three others were written before it.
            text = files[3].read_bytes()
            certificate = x509.load_pem_x509_certificate(text)
            key = serialization.load_pem_private_key(text, password=None)
            certificate.verify_directly_issued_by(self.certificate)
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
            return f"not usable: {error or type(error).__name__}", None
        if key.public_key() != certificate.public_key():
            return "key and certificate do not belong together", None
        if set(found) != set(names):
            return "other names", None
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if self.clock.now() >= begin + (end - begin) * RENEW_AT:
            return "expiring", None
        return "", certificate

    def _sign(
        self, common_name: str, names: list[x509.GeneralName], key: ec.EllipticCurvePrivateKey, days: int
    ) -> x509.Certificate:
        """Return a server certificate for `names`."""
        now = self.clock.now()
        public, authority = key.public_key(), self.key.public_key()
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        return (
            x509.CertificateBuilder()
            .subject_name(_named(common_name[:64]))  # X.520 bounds a common name; clients look at the SANs anyway
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def _open(cert_file: Path, key_file: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return certificate and key of an authority that is there; raise UsageError when they are not whole."""
    hint = f"restore {cert_file} and {key_file} from a backup, or move both away to begin a new authority"
    try:
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"the authority in {cert_file.parent} is damaged", detail=str(error), hint=hint) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        detail = f"{key_file.name} is not the key of {cert_file.name}"
        raise UsageError(f"the authority in {cert_file.parent} is damaged", detail=detail, hint=hint)
    return certificate, key


def _self_signed(common_name: str, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Return the authority's own certificate. It may sign servers only, no further authorities."""
    subject = _named(common_name)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return the key usage of an authority or of a server."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _named(common_name: str) -> x509.Name:
    """Return a name that is a common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(san: str) -> x509.GeneralName:
    """Return a DNS name or an IP address (v4, v6); raise UsageError for anything else."""
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        pass
    labels = san.removeprefix("*.").split(".")
    if not all(label and label.replace("-", "").isalnum() and label.isascii() for label in labels) or len(san) > 253:
        raise UsageError(f"{san!r} is neither a DNS name nor an IP address", hint="write names in ASCII, without port")
    return x509.DNSName(san)


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a private key in PEM; whoever writes it writes it 0600."""
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
