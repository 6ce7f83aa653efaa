"""The lab's image registry: Debian's docker-registry with TLS and login on one host, and the push of images to it.

The password is made for each lab, lies in its directory (0600) and goes to programs through files and standard
input only.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from mcpops.core.errors import Failed
from mcpops.core.files import write_atomic
from mcpops.lab import cgroups
from mcpops.lab.files import DATA
from mcpops.lab.host import Host
from mcpops.lab.images import Images
from mcpops.lab.lab import Files
from mcpops.tls.ca import CertificateAuthority

HOST = "registry1"
PORT = 5000
NAME = f"{HOST}:{PORT}"
USER = "lab"
REPOSITORY = "time"
_BCRYPT_COST = "5"  # bcrypt runs at every request of a push: at cost 14 one push took 75 s
_START_TIMEOUT_S = 20

_INSTALL = """set -eu
export DEBIAN_FRONTEND=noninteractive
test -x /usr/bin/docker-registry ||
    apt-get -qq -o Dpkg::Options::=--force-confold install docker-registry >/dev/null 2>&1
chown -R docker-registry: /etc/docker/registry
systemctl reset-failed docker-registry || true
systemctl restart docker-registry
"""


@dataclass(frozen=True)
class Registry:
    """What a lab's registry needs to be reached: `directory` holds CA certificate, login and key."""

    directory: Path
    authority: CertificateAuthority

    @classmethod
    def ensure(cls, lab_directory: Path, authority: CertificateAuthority) -> Registry:
        """Make the password of a lab's registry if it has none yet."""
        directory = lab_directory / "registry"
        directory.mkdir(mode=0o700, exist_ok=True)
        if not (directory / "password").exists():
            write_atomic(directory / "password", secrets.token_urlsafe(24))
        return cls(directory, authority)

    def login(self, name: str = NAME) -> str:
        """Return the text of Docker's config.json that logs in to the registry under `name`."""
        password = (self.directory / "password").read_text()
        auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
        return json.dumps({"auths": {name: {"auth": auth}}}, indent=1)

    def client_files(self) -> Files:
        """Return what a host needs to pull: the login of root, and whom to trust."""
        certificate = (self.authority.cafile.read_text(), 0o644)
        return {
            "/root/.docker/config.json": (self.login(), 0o600),
            f"/etc/docker/certs.d/{NAME}/ca.crt": certificate,
        }

    def server_files(self, host: Host) -> Files:
        """Return what the registry's host needs before its first boot."""
        issued = self.authority.issue(HOST, [HOST, host.ipv4, host.ipv6], self.directory)
        return {
            "/etc/docker/registry/config.yml": ((DATA / "registry.yml").read_text(), 0o600),
            "/etc/docker/registry/tls.crt": (issued.cert.read_text(), 0o600),
            "/etc/docker/registry/tls.key": (issued.key.read_text(), 0o600),
            "/etc/docker/registry/htpasswd": (self._htpasswd(), 0o600),
        }

    def start(self, host: Host) -> None:
        """Install and start the registry on its host, and wait until it asks for a login."""
        host.ssh(_INSTALL)
        context = ssl.create_default_context(cafile=str(self.authority.cafile))
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        saw = ""
        while time.monotonic() < deadline_s:
            try:
                connection = http.client.HTTPSConnection(host.ipv4, PORT, timeout=3, context=context)
                connection.request("GET", "/v2/")
                saw = f"status {connection.getresponse().status}"
                connection.close()
            except OSError as error:
                saw = str(error)
            if saw == "status 401":
                return
            time.sleep(0.05)
        raise Failed(
            f"the registry on {host.name} does not ask for a login",
            detail=f"{saw}; {host.ssh('journalctl -u docker-registry -n 8 --no-pager', check=False).stdout}",
        )

    def push(self, host: Host, images: Images) -> None:
        """Put the images into the registry, their digests kept; what it has already is not sent again."""
        address = f"{host.ipv4}:{PORT}"
        login = self.directory / "push.json"
        write_atomic(login, self.login(address))
        trust = self.directory / "trust"
        trust.mkdir(exist_ok=True)
        (trust / "ca.crt").write_text(self.authority.cafile.read_text())
        for tag in images.digests:
            done = subprocess.run(
                cgroups.inside(host.lab, ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests",
                 "--dest-authfile", str(login), "--dest-cert-dir", str(trust),
                 f"oci:{images.layout}:{tag}", f"docker://{address}/{REPOSITORY}:{tag}"]),
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            if done.returncode:
                raise Failed(f"the image {REPOSITORY}:{tag} could not be pushed", detail=done.stderr.strip())

    def _htpasswd(self) -> str:
        done = subprocess.run(
            ["htpasswd", "-niB", "-C", _BCRYPT_COST, USER],
            input=(self.directory / "password").read_text(),
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        return done.stdout


def reference(digest: str) -> str:
    """Return the image by digest as a host pulls it."""
    return f"{NAME}/{REPOSITORY}@{digest}"
