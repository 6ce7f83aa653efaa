"""Carry the bytes of an ssh connection without its pauses: `python -I -S relay.py HOST PORT TIMEOUT_S`.

Run by ssh as its ProxyCommand. While it logs in, ssh leaves Nagle's algorithm on, and both ends wait twice for an
acknowledgement that the other one delays by 40 ms. Here small packets go at once (TCP_NODELAY) and what comes is
acknowledged at once (TCP_QUICKACK, which Linux forgets, so it is said each time): 66 ms to log in instead of 138.
Standard library only, and few modules of it: its own start is a part of the wait.
"""

import os
import select
import socket
import sys

CHUNK_BYTES = 65_536


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect; ends the process with ssh's own words when that fails, as people and `explain` know them."""
    try:
        connection = socket.create_connection((host, port), timeout_s)
    except socket.gaierror as error:
        sys.exit(f"ssh: Could not resolve hostname {host}: {error.strerror}")
    except TimeoutError:
        sys.exit(f"ssh: connect to host {host} port {port}: Connection timed out")
    except OSError as error:
        sys.exit(f"ssh: connect to host {host} port {port}: {error.strerror}")
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def carry(connection: socket.socket, source: int, sink: int) -> None:
    """Carry bytes both ways until either end is over."""
    ready = select.poll()
    ready.register(source, select.POLLIN)
    ready.register(connection, select.POLLIN)
    while True:
        for descriptor, _ in ready.poll():
            if descriptor == source:
                data = os.read(source, CHUNK_BYTES)
                connection.sendall(data)
            else:
                data = connection.recv(CHUNK_BYTES)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                _write(sink, data)
            if not data:
                return


def _write(sink: int, data: bytes) -> None:
    while data:
        data = data[os.write(sink, data) :]


if __name__ == "__main__":
    try:
        carry(connect(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])), 0, 1)
    except OSError as error:
        sys.exit(f"ssh: the connection broke: {error.strerror}")
