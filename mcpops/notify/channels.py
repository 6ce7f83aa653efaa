"""The ways to tell: each sends one notice, or raises NotDelivered; nothing here knows the journal."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import smtplib
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Any, Protocol

TIMEOUT_S = 10.0
_STANDARD = b"whsec_"  # Standard Webhooks, "signature scheme"
_SAID = 300  # characters of an answer that go into the record


class NotDelivered(Exception):
    """It did not arrive, or nobody can tell; says why."""


class Channel(Protocol):
    """One way to tell."""

    def send(self, body: Mapping[str, Any]) -> None:
        """Deliver one notice; raise NotDelivered. `body["id"]` is the same at each try."""


@dataclass(frozen=True)
class Webhook:
    """POST of JSON. With a secret it is signed as standardwebhooks.com says (HMAC-SHA256 over id, time and body)."""

    url: str
    secret_file: Path | None = None

    def send(self, body: Mapping[str, Any]) -> None:
        """POST the notice; any answer of 2xx is an arrival."""
        payload = json.dumps(body, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "webhook-id": str(body["id"])}
        if self.secret_file:
            headers |= signature(_key(_secret(self.secret_file)), str(body["id"]), int(time.time()), payload)
        _request(urllib.request.Request(self.url, data=payload, headers=headers, method="POST"))  # noqa: S310


def signature(secret: bytes, notice_id: str, at: int, payload: bytes) -> dict[str, str]:
    """Return the headers that prove who sent it, and when (Standard Webhooks, "signature scheme")."""
    signed = b".".join((notice_id.encode(), str(at).encode(), payload))
    digest = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    return {"webhook-timestamp": str(at), "webhook-signature": f"v1,{digest}"}


@dataclass(frozen=True)
class Ping:
    """GET of a URL after a success: who listens there misses it when it does not come."""

    url: str

    def send(self, body: Mapping[str, Any]) -> None:
        """GET the URL; any answer of 2xx is an arrival."""
        _request(urllib.request.Request(self.url, method="GET"))  # noqa: S310 - the settings allow http(s) only


@dataclass(frozen=True, kw_only=True)
class Email:
    """A message by SMTP; `starttls` is on unless the settings say otherwise."""

    sender: str
    to: Sequence[str]
    host: str
    port: int = 587
    starttls: bool = True
    user: str | None = None
    password_file: Path | None = None

    def send(self, body: Mapping[str, Any]) -> None:
        """Hand the message to the mail server; a refused recipient is no arrival."""
        message = EmailMessage()
        message["From"], message["To"] = self.sender, ", ".join(self.to)
        message["Subject"] = f"mcpops {body.get('environment')}: {body.get('runbook')} {body.get('event')}"
        message["Date"], message["Message-ID"] = formatdate(), f"<{body['id']}@mcpops>"
        message.set_content("\n".join(f"{name}: {value}" for name, value in body.items() if value not in (None, "")))
        try:
            with smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_S) as server:
                if self.starttls:
                    server.starttls(context=ssl.create_default_context())
                if self.user and self.password_file:
                    server.login(self.user, _secret(self.password_file).decode())
                refused = server.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            raise NotDelivered(f"{self.host}: {error!r}") from error
        if refused:
            raise NotDelivered(f"{self.host} refused {', '.join(refused)}")


@dataclass(frozen=True)
class Command:
    """A program that gets the notice as JSON on its standard input; exit code 0 is an arrival."""

    argv: Sequence[str]

    def send(self, body: Mapping[str, Any]) -> None:
        """Run the program."""
        try:
            payload = json.dumps(body).encode()
            done = subprocess.run(self.argv, input=payload, capture_output=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotDelivered(f"{self.argv[0]}: {error}") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-_SAID:]
            raise NotDelivered(f"{self.argv[0]} ended with {done.returncode}: {said}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the signature, or the ping, to another place than the settings name."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        """Follow nothing."""
        return


def _request(request: urllib.request.Request) -> None:
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise NotDelivered(f"{_place(request)} answered {error.code}") from error
    except (OSError, ValueError) as error:
        raise NotDelivered(f"{_place(request)}: {error}") from error


def _place(request: urllib.request.Request) -> str:
    """Return where a request went, without its path and query: those often are the secret."""
    return f"{request.type}://{request.host}"


def _key(secret: bytes) -> bytes:
    """Return the key of a secret: `whsec_` and base64, as the standard writes it, or the bytes themselves."""
    if not secret.startswith(_STANDARD):
        return secret
    try:
        return base64.b64decode(secret.removeprefix(_STANDARD), validate=True)
    except ValueError as error:
        raise NotDelivered("the webhook's secret is no base64 behind whsec_") from error


def _secret(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise NotDelivered(f"{path}: {error.strerror}") from error
