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
    """What a client of `name` sees: the end of the certificate, or why it hangs up."""

    name: str
    url: str
    not_after: datetime | None
    error: str | None

    def days_left(self, now: datetime) -> int | None:
        """Return the whole days until it ends; None when no client accepts what is served."""
        return (self.not_after - now).days if self.not_after else None


def look(url: str, name: str, ca_pem: str | None, timeout_s: float) -> Served:
    """Make a connection, verify chain and name against the CA (the system's without one), and say what was seen."""
    parts = urlsplit(url)
    try:
        context = ssl.create_default_context(cadata=ca_pem)
        with (
            socket.create_connection((parts.hostname or "", parts.port or HTTPS_PORT), timeout_s) as tcp,
            context.wrap_socket(tcp, server_hostname=name) as tls,
        ):
            ends_s = ssl.cert_time_to_seconds(str((tls.getpeercert() or {})["notAfter"]))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        return Served(name, url, None, str(error))
    return Served(name, url, datetime.fromtimestamp(ends_s, UTC), None)
