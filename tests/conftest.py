"""Rules for all tests: where there can be no lab its tests are skipped, and a skip on CI needs an allowed reason.

And the one embedded default that the e2e and crash tests of a process share: it takes a minute to come up.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from mcpops.lab import machine

if TYPE_CHECKING:
    from tests.e2e.stand import Project

ALLOWED = "not on this machine: "  # then the part that cannot be had here; the summary of `make test` lists these


@pytest.fixture(scope="session")
def project() -> Iterator[Project]:
    """A project on real servers; each test begins and ends with a good release serving that the project knows."""
    from tests.e2e.stand import serving_project  # noqa: PLC0415

    yield from serving_project()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL server, one a process; tests make databases of their own on it."""
    from tests.servers import postgres  # noqa: PLC0415

    with postgres() as url:
        yield url


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test of the lab before any fixture of its session or module starts hosts."""
    lacking = machine.lacks() if item.get_closest_marker("lab") else None
    if lacking:
        pytest.skip(f"{ALLOWED}{lacking}")


# Both run around pytest's own hooks, before anything else (counts, exit code, xdist) sees the report. A change in
# pytest_runtest_logreport comes too late: the run ends with 0.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge the skip of a test."""
    report = yield
    _judge(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge the skip of a module."""
    report = yield
    _judge(report)
    return report


def _judge(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip without an allowed reason into a failure, where CI says so; an expected failure is no skip."""
    if not report.skipped or not os.environ.get("CI") or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not reason.removeprefix("Skipped: ").startswith(ALLOWED):
        report.outcome = "failed"
        report.longrepr = f"skipped on CI, and its reason does not begin with {ALLOWED!r}: {reason}"
