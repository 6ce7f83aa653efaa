"""Who acts is what the kernel says; an environment variable is anybody's word."""

from __future__ import annotations

import os
import pwd

import pytest

from mcpops.core.person import whoami

NOBODY_KNOWS = 3_999_999_999  # a uid without an entry in passwd


@pytest.fixture(autouse=True)
def as_mallory_says(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "grace")


def test_behind_root_is_whom_sudo_names(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)

    assert whoami() == "grace"


def test_root_without_sudo_is_root(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.delenv("SUDO_USER")

    assert whoami() == pwd.getpwuid(0).pw_name


def test_nobody_but_root_becomes_another_person_by_the_environment(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 1)

    assert whoami() == pwd.getpwuid(1).pw_name


def test_a_user_without_a_name_is_a_number(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: NOBODY_KNOWS)

    assert whoami() == str(NOBODY_KNOWS)
