"""Where a contract is tried."""

from __future__ import annotations

import uuid

import pytest

from tests.servers import create_database


@pytest.fixture(params=["sqlite", "postgres"])
def where(request, tmp_path):
    """A place for a new journal, on each kind of database."""
    if request.param == "sqlite":
        return tmp_path / "journal.sqlite"
    url = request.getfixturevalue("postgres_url")
    return create_database(url, f"j{uuid.uuid4().hex[:12]}")
