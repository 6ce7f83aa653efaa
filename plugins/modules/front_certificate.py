#!/usr/bin/python
"""Ansible module: a running front serves the certificate that its file holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: front_certificate
short_description: Have a running front serve what its certificate's file holds
description:
  - Compares three things, the file, what the proxy has loaded, and what a new TLS connection to each address is served.
  - Where they differ, the file is put into the running proxy by its admin socket. No connection is closed for it, and
    no second process is needed. Then new connections are made again, and must be served what the file holds.
  - What the running proxy cannot take over, a file that came to a directory or left it, is told as C(reload).
options:
  admin_socket: {description: "HAProxy's admin socket.", type: path, required: true}
  file: {description: "PEM file with certificate and key, or a directory of such files.", type: path, required: true}
  addresses: {description: "Where the front listens; IPv6 in brackets.", type: list, elements: str, required: true}
  port: {description: "Port of the front.", type: int, required: true}
  server_name: {description: "Name that the clients ask for (SNI).", type: str, required: true}
  act: {description: "No only looks, and fails where something differs.", type: bool, default: true}
  timeout_s: {description: "Seconds for the proxy and for each connection.", type: int, default: 10}
attributes:
  check_mode: {support: full}
author: mcpops
"""

EXAMPLES = r"""
- name: Serve what the file holds
  front_certificate:
    admin_socket: /var/lib/mcpops/time/admin.sock
    file: /etc/mcpops/front.pem
    addresses: ["0.0.0.0", "[::]"]
    port: 443
    server_name: time.lab.test
"""

RETURN = r"""
differs: {description: "What was not as the file says, in words.", type: list, returned: success}
reload: {description: "Whether the proxy must be reloaded for it.", type: bool, returned: success}
"""

import hashlib
import os
import re
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
# Beside a certificate, HAProxy looks for these by its name (crt, in HAProxy's configuration manual).
NO_CERTIFICATES = (".key", ".issuer", ".ocsp", ".sctl")
POLL_S = 0.1

Fingerprints = dict[Path, str]


class Wrong(Exception):
    """It is not as it must be; the text says what, and the way out."""


@dataclass(frozen=True)
class Front:
    """A front and what it shall serve."""

    admin_socket: Path
    file: Path
    addresses: tuple[str, ...]
    port: int
    server_name: str
    timeout_s: int


def fingerprint(der: bytes) -> str:
    """Return a certificate's SHA-1 in capital hex digits, as HAProxy prints it."""
    return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()


def blocks(path: Path) -> list[tuple[str, str]]:
    """Return the PEM blocks of a file as (kind, text). Raises Wrong for a file that holds no certificate."""
    try:
        found = [(match[1], match[0]) for match in BLOCK.finditer(path.read_text())]
    except (OSError, ValueError) as error:
        raise Wrong(f"{path} cannot be read: {error}; `mcpops run setup` issues a new one") from error
    if not any(kind == "CERTIFICATE" for kind, _ in found):
        raise Wrong(f"{path} holds no certificate in PEM; `mcpops run setup` issues a new one")
    return found


def in_files(file: Path) -> Fingerprints:
    """Return the certificate of each PEM file (the first one is the server's, a chain follows). Raises Wrong."""
    paths = [file]
    if file.is_dir():
        seen = [path for path in file.iterdir() if not path.name.startswith(".")]
        paths = sorted(path for path in seen if path.suffix not in NO_CERTIFICATES)
    first = {path: next(text for kind, text in blocks(path) if kind == "CERTIFICATE") for path in paths}
    return {path: fingerprint(ssl.PEM_cert_to_DER_cert(text)) for path, text in first.items()}


def say(front: Front, *lines: str) -> str:
    """Return the proxy's answer to a command. The socket's path may be longer than an address (see main)."""
    with socket.socket(socket.AF_UNIX) as api:
        api.settimeout(front.timeout_s)
        api.connect(front.admin_socket.name)
        api.sendall("\n".join([*lines, ""]).encode())
        return b"".join(iter(lambda: api.recv(65536), b"")).decode()


def in_proxy(front: Front) -> Fingerprints:
    """Return the certificates that the proxy has loaded from the file or directory, by file."""
    paths = [Path(line) for line in say(front, "show ssl cert").splitlines() if line.startswith("/")]
    loaded = {}
    for path in paths:
        if front.file in (path, path.parent):
            found = re.search(r"^SHA1 FingerPrint: ([0-9A-F]{40})$", say(front, f"show ssl cert {path}"), re.MULTILINE)
            loaded[path] = found[1] if found else ""
    return loaded


def served(front: Front, address: str) -> str:
    """Return what a new connection is served, to compare it; nothing is judged. Raises Wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address.strip("[]"), front.port), front.timeout_s) as tcp,
            context.wrap_socket(tcp, server_hostname=front.server_name) as tls,
        ):
            return fingerprint(tls.getpeercert(binary_form=True) or b"")
    except OSError as error:
        raise Wrong(f"no TLS connection to {address} port {front.port}: {error}; see the log of the front") from error


def differences(files: Fingerprints, proxy: Fingerprints, clients: dict[str, str]) -> list[str]:
    """Return in words what the proxy and the clients of each address have otherwise than the files. Pure."""
    words = [f"{path} was not loaded" for path in files if path not in proxy]
    words += [f"{path} is gone and still loaded" for path in proxy if path not in files]
    words += [f"{path} was replaced" for path in files if path in proxy and proxy[path] != files[path]]
    return words + [f"{address} serves another" for address, seen in clients.items() if seen not in files.values()]


def look(front: Front) -> tuple[list[str], list[Path], bool]:
    """Return the differences, the files to put into the proxy, and whether only a reload helps. Raises Wrong."""
    files, proxy = in_files(front.file), in_proxy(front)
    clients = {address: served(front, address) for address in front.addresses}
    replaced = [path for path in files if path in proxy and proxy[path] != files[path]]
    return differences(files, proxy, clients), replaced, files.keys() != proxy.keys()


def put(front: Front, path: Path) -> None:
    """Put a file into the running proxy, for new connections. Raises Wrong; then the old one is still served."""
    # An empty line would end the text, and what stands around the blocks is for people.
    pem = "\n".join(line for _, text in blocks(path) for line in text.splitlines() if line.strip())
    try:
        answers = [say(front, f"set ssl cert {path} <<", pem, ""), say(front, f"commit ssl cert {path}")]
    except OSError as error:  # it hangs up on a text that is longer than its buffer, before or after it says so
        answers = [str(error), ""]
    if "Success!" not in answers[1]:
        say(front, f"abort ssl cert {path}")
        said = " ".join(" ".join(answers).split())
        raise Wrong(f"HAProxy does not take {path}: {said}; the old certificate is served until the file is right")


def wait_for(front: Front, wait_s: float) -> bool:
    """Return whether the proxy answers, at the latest after so many seconds."""
    end = time.monotonic() + wait_s
    while True:
        try:
            say(front, "show version")
        except OSError:
            if time.monotonic() >= end:
                return False
            time.sleep(POLL_S)
        else:
            return True


def have(front: Front, act: bool) -> tuple[list[str], bool]:
    """Look, act, look again; return what differed, and whether a reload is left to do. Raises Wrong."""
    if not wait_for(front, front.timeout_s):
        raise Wrong(f"nobody answers on {front.admin_socket}; start the front")
    differs, replaced, reload = look(front)
    if differs and not act:
        raise Wrong(f"not what {front.file} holds: {'; '.join(differs)}; `mcpops run setup` serves it")
    if differs and not reload:
        for path in replaced:
            put(front, path)
        if left := look(front)[0]:
            raise Wrong(f"{'; '.join(left)}, though the proxy took {front.file}; does another process listen there?")
    return differs, reload


def predict(front: Front) -> tuple[list[str], bool]:
    """Return what `have` would. Earlier tasks have made nothing right either, so what is wrong only differs."""
    if not wait_for(front, 0):
        return [], False  # whoever starts it has it read the file
    try:
        differs, _, reload = look(front)
    except Wrong as error:
        return [str(error)], False
    return differs, reload


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "admin_socket": {"type": "path", "required": True},
            "file": {"type": "path", "required": True},
            "addresses": {"type": "list", "elements": "str", "required": True},
            "port": {"type": "int", "required": True},
            "server_name": {"type": "str", "required": True},
            "act": {"type": "bool", "default": True},
            "timeout_s": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    given = dict(module.params)
    act = given.pop("act")
    paths = {name: Path(given[name]).absolute() for name in ("admin_socket", "file")}
    front = Front(**{**given, **paths, "addresses": tuple(given["addresses"])})
    try:
        # An address of a socket has 107 bytes, a path may have more.
        if front.admin_socket.parent.is_dir():
            os.chdir(front.admin_socket.parent)
        differs, reload = predict(front) if act and module.check_mode else have(front, act)
    except (Wrong, OSError) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=bool(differs), differs=differs, reload=reload)


if __name__ == "__main__":
    main()
