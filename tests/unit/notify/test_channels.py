"""Each way to tell, against a listener of its own kind; what is no arrival is told as none."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socketserver
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mcpops.notify.channels import Command, Email, NotDelivered, Ping, Webhook

BODY = {"id": "notice-1", "event": "failed", "environment": "lab", "runbook": "deploy", "reason": "ümlaut"}


@contextmanager
def http(code=200, headers=()):
    """A listener that answers with one code; what it heard."""
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            heard.append((self.command, self.path, dict(self.headers), body))
            self.send_response(code)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *args):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_webhook_is_signed_so_that_its_receiver_knows_who_and_what(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hush-hush\n")
    with http() as (url, heard):
        Webhook(f"{url}/hook", secret).send(BODY)

    ((method, path, headers, payload),) = heard
    assert (method, path, json.loads(payload)) == ("POST", "/hook", BODY)
    assert headers["Webhook-Id"] == "notice-1"
    signed = b".".join((b"notice-1", headers["Webhook-Timestamp"].encode(), payload))
    digest = base64.b64encode(hmac.new(b"hush-hush", signed, hashlib.sha256).digest()).decode()
    assert headers["Webhook-Signature"] == f"v1,{digest}"


def test_a_secret_in_the_standard_s_form_is_decoded(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("whsec_" + base64.b64encode(b"hush-hush").decode())
    with http() as (url, heard):
        Webhook(url, secret).send(BODY)

    ((_, _, headers, payload),) = heard
    signed = b".".join((b"notice-1", headers["Webhook-Timestamp"].encode(), payload))
    assert headers["Webhook-Signature"].endswith(
        base64.b64encode(hmac.new(b"hush-hush", signed, hashlib.sha256).digest()).decode()
    )
    secret.write_text("whsec_no base64")
    with pytest.raises(NotDelivered, match="no base64"):
        Webhook("http://127.0.0.1:1", secret).send(BODY)


@pytest.mark.parametrize("code", [301, 400, 404, 429, 500, 503])
def test_any_other_answer_is_no_arrival_and_names_no_path(code):
    with http(code, [("Location", "http://127.0.0.1:1/elsewhere")]) as (url, _), pytest.raises(NotDelivered) as caught:
        Webhook(f"{url}/secret-token").send(BODY)
    assert str(code) in str(caught.value)
    assert "secret-token" not in str(caught.value)


@pytest.mark.parametrize("channel", [Webhook("http://127.0.0.1:1/token"), Ping("http://127.0.0.1:1/token")])
def test_nobody_there_is_no_arrival(channel):
    with pytest.raises(NotDelivered) as caught:
        channel.send(BODY)
    assert "token" not in str(caught.value)


def test_a_secret_that_is_not_there_is_told(tmp_path):
    with pytest.raises(NotDelivered, match="No such file"):
        Webhook("http://127.0.0.1:1", tmp_path / "none").send(BODY)


def test_a_ping_is_a_get():
    with http() as (url, heard):
        Ping(f"{url}/uuid").send(BODY)
    assert [(method, path) for method, path, _, _ in heard] == [("GET", "/uuid")]


class Smtp(socketserver.StreamRequestHandler):
    """The least of a mail server (RFC 5321), without STARTTLS."""

    def handle(self):
        self.say(b"220 test")
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"RCPT" and b"nobody" in line:
                self.say(b"550 no such user")
            elif word == b"DATA":
                self.say(b"354 go on")
                lines = []
                while (text := self.rfile.readline()) != b".\r\n":
                    lines.append(text)
                self.server.heard.append(b"".join(lines))
                self.say(b"250 ok")
            elif word == b"QUIT":
                self.say(b"221 bye")
                return
            else:
                self.say(b"250 ok")

    def say(self, line):
        self.wfile.write(line + b"\r\n")


@pytest.fixture
def smtp():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp) as server:
        server.heard = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def email(smtp, **more):
    settings = {"sender": "mcpops@example.com", "to": ["oncall@example.com"], "host": "127.0.0.1", "starttls": False}
    return Email(**(settings | {"port": smtp.server_address[1]} | more))


def test_an_email_says_what_and_where(smtp):
    email(smtp).send(BODY)

    (text,) = smtp.heard
    assert b"Subject: mcpops lab: deploy failed" in text
    assert b"Message-ID: <notice-1@mcpops>" in text


def test_an_email_that_is_refused_is_no_arrival(smtp):
    with pytest.raises(NotDelivered):
        email(smtp, to=["nobody@example.com"]).send(BODY)
    with pytest.raises(NotDelivered, match=r"nobody@example\.com"):
        email(smtp, to=["nobody@example.com", "oncall@example.com"]).send(BODY)


def test_a_server_that_has_no_tls_gets_no_mail_by_default(smtp):
    with pytest.raises(NotDelivered):
        email(smtp, starttls=True).send(BODY)
    assert smtp.heard == []


def test_a_command_gets_the_notice_on_its_standard_input(tmp_path):
    heard = tmp_path / "heard"
    Command((sys.executable, "-c", f"import sys; open({str(heard)!r}, 'w').write(sys.stdin.read())")).send(BODY)
    assert json.loads(heard.read_text()) == BODY


@pytest.mark.parametrize("argv", [("false",), ("/not/there",)])
def test_a_command_that_fails_is_no_arrival(argv):
    with pytest.raises(NotDelivered, match=argv[0]):
        Command(argv).send(BODY)
