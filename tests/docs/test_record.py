"""The picture of the demo shows what stood in the terminal."""

from __future__ import annotations

import sys

import pytest

from demo.record import draw, in_terminal, screen


def test_a_line_that_was_written_over_is_gone():
    assert screen("spin 1\r\x1b[2Kspin 2\r\x1b[2Kdone\r\nnext") == ["done", "next"]


def test_lines_above_can_be_taken_back():
    assert screen("kept\r\nspinner\r\n\x1b[1A\x1b[2Kended\r\n") == ["kept", "ended", ""]


def test_a_carriage_return_before_the_line_feed_loses_nothing():
    assert screen("one\r\r\ntwo\r\n") == ["one", "two", ""]


def test_the_picture_begins_where_it_is_told_and_fetches_nothing():
    svg = draw(["before", "\x1b[1mfrom here\x1b[0m", "a < b"], since="from here")
    assert "before" not in svg
    assert "from&#160;here" in svg
    assert "a&#160;&lt;&#160;b" in svg
    assert "url(http" not in svg
    assert "@import" not in svg


def test_a_picture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no line holds 'absent'"):
        draw(["something else"], since="absent")


def test_a_program_in_the_terminal_sees_a_terminal_and_its_width():
    program = "import os, sys; print(sys.stderr.isatty(), os.get_terminal_size().columns); sys.exit(3)"
    code, seen = in_terminal([sys.executable, "-c", program])
    assert (code, seen.strip()) == (3, "True 110")
