from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mcpops.model.outcome import Outcome, Result, judge

CASES = yaml.safe_load(Path(__file__).with_name("verdicts.yml").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_nothing_vacuous_passes(case: dict[str, Any]) -> None:
    given = case["given"]
    results = [
        Result(host=host, task="t", outcome=Outcome(outcome))
        for host, outcomes in given["results"].items()
        for outcome in outcomes
    ]
    outcome, why = judge(
        results,
        left=given.get("left", ()),
        minimum_hosts=given.get("minimum_hosts"),
        minimum_checks=1,
        ended=True,
        exit_good=True,
    )
    wanted, part = case["expected"]
    assert outcome == wanted, why
    assert part in why if part else why == ""
