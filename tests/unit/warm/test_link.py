"""What a host may say: a host that was taken over says what it likes, and gets nothing by it."""

import json
import os
import socket
import struct
import threading
from contextlib import suppress

import pytest

from mcpops.warm.errors import Absent, Broken, Refused
from mcpops.warm.link import Answer, Link


def piece(kind: bytes, data: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(data)) + data


def ask(said: bytes) -> tuple[Link, Answer | str]:
    """Ask a server that says this and closes the session."""
    ours, theirs = socket.socketpair()
    link = Link(ours, os.getppid())

    def speak() -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            theirs.sendall(said)
            theirs.shutdown(socket.SHUT_WR)

    with ours, theirs:
        thread = threading.Thread(target=speak)
        thread.start()
        try:
            return link, link.ask({"op": "module"}, b"body")
        except (Broken, Absent, Refused) as error:
            error.clean = link.clean
            raise
        finally:
            ours.close()  # what was not read must not hold the one who speaks
            thread.join()


def test_output_and_code_come_out_in_order():
    said = piece(b"O", b"a") + piece(b"E", b"x") + piece(b"O", b"b") + piece(b"X", struct.pack(">I", 3))

    link, answer = ask(said)

    assert answer == Answer(3, b"ab", b"x")
    assert link.clean


@pytest.mark.parametrize(("kind", "word"), [(b"N", "wanted"), (b"K", "kept")])
def test_words_about_a_payload(kind, word):
    assert ask(piece(kind))[1] == word


@pytest.mark.parametrize("kind", [b"B", b"S"])
def test_a_server_that_left_before_it_began_is_absent(kind):
    with pytest.raises(Absent) as absent:
        ask(piece(kind))
    assert not absent.value.clean


def test_a_refusal_says_why_and_the_channel_can_be_used_again():
    with pytest.raises(Refused, match="fenced by 7") as refused:
        ask(piece(b"R", json.dumps({"why": "fenced by 7", "fence": 7}).encode()))
    assert (refused.value.fence, refused.value.clean) == (7, True)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"X",
        piece(b"X", b"123"),
        piece(b"X", b"12345"),
        piece(b"?", b""),
        piece(b"H", b""),
        piece(b"O", b"text"),
        b"O" + struct.pack(">I", 1 << 20),
        b"O" + struct.pack(">I", 0xFFFFFFFF),
        piece(b"R", b"no json"),
        piece(b"R", b"[]"),
        piece(b"R", b'{"why": "x", "fence": "y"}'),
        piece(b"R", b'{"why": "x", "fence": 1e999}'),
        b"junk of a login, or of somebody who took the host over" * 100,
    ],
)
def test_anything_else_breaks_the_session_and_it_is_not_used_again(said):
    with pytest.raises(Broken) as broken:
        ask(said)
    assert not broken.value.clean


def test_more_output_than_is_taken_breaks_the_session(monkeypatch):
    monkeypatch.setattr("mcpops.warm.link._OUTPUT_BYTES", 100_000)

    with pytest.raises(Broken, match="131072 in all"):
        ask(piece(b"O", bytes(65536)) * 2)
