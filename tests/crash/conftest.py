"""The second control node of the races."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.stand import Project, new_project


@pytest.fixture(scope="session")
def elsewhere(project: Project) -> Iterator[Project]:
    """A second control node for the same hosts: another project directory, another journal."""
    made = new_project(hosts_of=project)
    yield made
    shutil.rmtree(made.home)
