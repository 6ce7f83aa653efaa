"""On CI a skip fails the run unless it names a part that cannot be had; elsewhere it is a skip. In a run of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = "def test_good():\n    pass\n"
HERE = "import pytest\ndef test_it():\n    pytest.skip('{}')\n"
MARK = "import pytest\n@pytest.mark.skipif(True, reason='{}')\ndef test_it():\n    0/0\n"
FIXTURE = "import pytest\n@pytest.fixture\ndef it():\n    pytest.skip('{}')\ndef test_it(it):\n    0/0\n"
MODULE = "import pytest\npytest.skip('{}', allow_module_level=True)\n"
IMPORT = "import pytest\npytest.importorskip('{}')\n"
FORBIDDEN, ALLOWED = "no_such_part", "not on this machine: sshd"
PARALLEL = ("-n", "2")


def ran(directory: Path, texts: list[str], *options: str, **environment: str) -> tuple[int, str, str]:
    """Run a good test and `texts` under our rules and pytest's settings; return exit code, output and last line."""
    shutil.copy(ROOT / "tests/conftest.py", directory)
    shutil.copy(ROOT / "pyproject.toml", directory)
    for number, text in enumerate([GOOD, *texts]):
        (directory / f"test_{number}.py").write_text(text)
    clean = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "."],
        cwd=directory, env={**clean, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "INTERNALERROR" not in said, said
    return done.returncode, said, said.splitlines()[-1].rpartition(" in ")[0]


def texts(forms: list[str], reason: str) -> list[str]:
    return [form.format(reason) for form in forms]


@pytest.mark.parametrize(
    ("form", "counts", "exit_code"),
    [
        (HERE, "1 failed, 1 passed", 1),
        (MARK, "1 passed, 1 error", 1),  # before the test began: pytest calls that an error
        (FIXTURE, "1 passed, 1 error", 1),
        (MODULE, "1 error", 2),
        (IMPORT, "1 error", 2),
    ],
    ids=["test", "mark", "fixture", "module", "import"],
)
def test_on_ci_a_skip_without_an_allowed_reason_fails(tmp_path: Path, form: str, counts: str, exit_code: int) -> None:
    code, said, last = ran(tmp_path, [form.format(FORBIDDEN)], CI="1")
    assert (code, last) == (exit_code, counts), said
    assert "skipped on CI, and its reason does not begin with 'not on this machine: ': Skipped: " in said
    assert FORBIDDEN in said


@pytest.mark.parametrize(
    ("forms", "counts", "exit_code"),
    [([HERE, MARK, FIXTURE], "1 failed, 1 passed, 2 errors", 1), ([MODULE, IMPORT], "1 passed, 2 errors", 1)],
    ids=["tests", "modules"],
)
def test_on_ci_they_fail_on_workers_too(tmp_path: Path, forms: list[str], counts: str, exit_code: int) -> None:
    code, said, last = ran(tmp_path, texts(forms, FORBIDDEN), *PARALLEL, CI="1")
    assert (code, last) == (exit_code, counts), said


@pytest.mark.parametrize("options", [(), PARALLEL], ids=["serial", "workers"])
def test_on_ci_a_part_that_cannot_be_had_is_skipped_and_told(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, said, last = ran(tmp_path, texts([HERE, MARK, FIXTURE, MODULE], ALLOWED), *options, CI="1")
    assert (code, last) == (0, "1 passed, 4 skipped"), said
    assert said.count(": not on this machine: sshd") == 4


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    code, said, last = ran(tmp_path, texts([HERE, MARK, FIXTURE, MODULE, IMPORT], FORBIDDEN))
    assert (code, last) == (0, "1 passed, 5 skipped"), said


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    code, said, last = ran(
        tmp_path, ["import pytest\n@pytest.mark.xfail(reason='known')\ndef test_it():\n    0/0\n"], CI="1"
    )
    assert (code, last) == (0, "1 passed, 1 xfailed"), said


def test_where_there_is_no_lab_its_tests_are_skipped_before_any_fixture(tmp_path: Path) -> None:
    text = (
        "import pytest\nfrom mcpops.core.errors import Failed\nfrom mcpops.lab import machine\n"
        "machine.lacks = lambda: Failed('the lab needs Debian')\n"
        "@pytest.fixture(scope='session')\ndef hosts():\n    0/0\n"
        "@pytest.mark.lab\n@pytest.mark.skipif(True, reason='some day')\ndef test_it(hosts):\n    0/0\n"
    )
    code, said, last = ran(tmp_path, [text], CI="1")
    assert (code, last) == (0, "1 passed, 1 skipped"), said
    assert ": not on this machine: the lab needs Debian" in said
