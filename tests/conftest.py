"""Rules for all tests: on CI a skipped test is a failure, unless it names a part that cannot be had on this machine."""

from __future__ import annotations

import os

import pytest

ALLOWED = "not on this machine: "


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Turn a skip without an allowed reason into a failure, where CI says so."""
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(ALLOWED):
            report.outcome = "failed"
            report.longrepr = f"skipped on CI: {reason!r} does not begin with {ALLOWED!r}"
