"""Links that wait in the kernel: who may take one, and what closes them."""

import os
import socket

import pytest

from mcpops.warm.park import Label, Park

HOST, OTHER = "0" * 64, "0" * 63 + "1"  # both in the same slot
ROOT, LOGIN = Label(HOST, "root", "/usr/bin/python3"), Label(HOST, "login", "/usr/bin/python3")


@pytest.fixture
def park(monkeypatch):
    made = Park()
    opened = [end for pair in made._pairs for end in pair]

    class Socket(socket.socket):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            opened.append(self)

    monkeypatch.setattr(socket, "socket", Socket)
    yield made
    for end in opened:
        end.close()


def link() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    return ours, theirs


def closed(end: socket.socket) -> bool:
    return end.recv(1) == b""


def test_what_was_put_is_taken_once(park):
    ours, theirs = link()
    park.put(ROOT, ours)

    found = park.take(ROOT)
    found.link.send(b"x")

    assert theirs.recv(1) == b"x"
    assert park.take(ROOT).link is None


@pytest.mark.parametrize(
    "wanted",
    [LOGIN, Label(HOST, "root", "/opt/python3"), Label(OTHER, "root", "/usr/bin/python3")],
)
def test_another_user_interpreter_or_host_gets_none_and_it_stays(park, wanted):
    ours, _theirs = link()
    park.put(ROOT, ours)

    assert park.take(wanted).link is None
    assert park.take(ROOT).link is not None


def test_to_ask_for_an_interpreter_lets_each_link_keep_its_own(park):
    venv = Label(HOST, "login", "/opt/venv/bin/python")
    far = {}
    for label in (LOGIN, venv):
        ours, far[label] = link()
        park.put(label, ours)

    for _ in range(3):
        assert park.interpreter(HOST, "login") in (LOGIN.interpreter, venv.interpreter)

    for label, theirs in reversed(far.items()):
        park.take(label).link.send(b"x")
        assert theirs.recv(1) == b"x"


@pytest.mark.parametrize("first", [0, 1])
def test_an_interpreter_that_serves_the_user_is_told_before_another(park, first):
    ends = [(Label(HOST, "root", "/opt/python3"), link()[0]), (LOGIN, link()[0])]
    for label, ours in (ends[first], ends[not first]):
        park.put(label, ours)

    assert park.interpreter(HOST, "login") == LOGIN.interpreter


def test_one_that_serves_is_told_before_one_that_cannot(park):
    park.put(Label(HOST, "login", "/opt/python3"), None)
    park.put(LOGIN, link()[0])

    assert park.interpreter(HOST, "login") == LOGIN.interpreter


def test_the_interpreter_of_another_user_is_told_and_none_of_another_host(park):
    ours, _theirs = link()
    park.put(ROOT, ours)

    assert park.interpreter(HOST, "login") == "/usr/bin/python3"
    assert park.interpreter(OTHER, "login") == ""
    assert park.take(ROOT).link is not None


def test_a_process_that_was_forked_takes_what_another_put(park):
    ours, theirs = link()
    pid = os.fork()
    if not pid:
        park.put(ROOT, ours)
        os._exit(0)
    os.waitpid(pid, 0)
    ours.close()

    park.take(ROOT).link.close()
    assert closed(theirs)


def test_what_waits_is_closed_with_the_last_process_that_could_take_it(park):
    ours, theirs = link()
    pid = os.fork()
    if not pid:
        Park().put(ROOT, ours)
        os.kill(os.getpid(), 9)
    ours.close()
    os.waitpid(pid, 0)

    assert closed(theirs)


@pytest.mark.parametrize("end", [lambda theirs: theirs.send(b"bye"), lambda theirs: theirs.close()])
def test_one_that_spoke_or_ended_meanwhile_is_none(park, end):
    ours, theirs = link()
    park.put(ROOT, ours)
    end(theirs)

    assert park.take(ROOT).link is None


def test_a_host_that_can_have_none_is_remembered(park):
    park.put(ROOT, None)

    assert park.take(ROOT).barred
    assert park.take(ROOT).barred
    assert not park.take(LOGIN).barred
    assert not park.take(Label(OTHER, "root", "/usr/bin/python3")).barred


def test_dropping_a_host_closes_its_channels_and_forgets_what_was_known(park):
    ours, theirs = link()
    other, other_far = link()
    park.put(ROOT, ours)
    park.put(LOGIN, None)
    park.put(Label(OTHER, "root", "/usr/bin/python3"), other)

    park.drop(HOST)

    assert closed(theirs)
    assert not park.take(LOGIN).barred
    assert park.take(Label(OTHER, "root", "/usr/bin/python3")).link is not None
    assert other_far.fileno() >= 0


def test_one_for_which_there_is_no_room_is_closed(park):
    pairs = [link() for _ in range(400)]
    for ours, _ in pairs:
        park.put(ROOT, ours)

    assert b"leave" in pairs[-1][1].recv(100)  # and not: the run is over, remove what it left
    assert closed(pairs[-1][1])
    assert park.take(ROOT).link is not None


def test_only_the_first_who_asks_is_the_first(park):
    assert park.first()
    assert not park.first()
    pid = os.fork()
    if not pid:
        os._exit(int(park.first()))
    assert os.waitpid(pid, 0)[1] == 0
