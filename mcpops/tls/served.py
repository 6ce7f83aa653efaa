"""The certificate that a server serves, looked at as a client does: not at a file."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

HTTPS_PORT = 443  # RFC 9110, section 4.2.2


@dataclass(frozen=True)
class Served:
    """What a client of `name` sees: the end of the certificate, or what it does not accept about it.

    `accepted` is None when no certificate was seen at all: nobody answered from here.
    """

    name: str
    url: str
    accepted: bool | None
    not_after: datetime | None = None
    error: str | None = None

    def days_left(self, now: datetime) -> int | None:
        """Return the whole days until it ends; None when it was not seen or is not accepted."""
        return (self.not_after - now).days if self.not_after else None


def look(url: str, name: str, ca_pem: str | None, timeout_s: float) -> Served:
    """Make a connection, verify chain and name against the CA (the system's without one), and say what was seen."""
    try:
        parts = urlsplit(url)
        context = ssl.create_default_context(cadata=ca_pem)
        with (
            socket.create_connection((parts.hostname or "", parts.port or HTTPS_PORT), timeout_s) as tcp,
            context.wrap_socket(tcp, server_hostname=name) as tls,
        ):
            ends_s = ssl.cert_time_to_seconds(str((tls.getpeercert() or {})["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        return Served(name, url, accepted=False, error=error.verify_message)
    except (OSError, ValueError) as error:
        return Served(name, url, accepted=None, error=str(error))
    return Served(name, url, accepted=True, not_after=datetime.fromtimestamp(ends_s, UTC))
