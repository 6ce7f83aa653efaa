"""One embedded default for all e2e tests of a session; each test begins and ends with FIRST or NEXT serving."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.stand import Project, serving_project


@pytest.fixture(scope="session")
def project() -> Iterator[Project]:
    yield from serving_project()
