"""Gates: what an environment does not say is unknown, and blocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from mcpops.core.clock import to_text
from mcpops.core.errors import UsageError
from mcpops.engine.execution import GateWaits
from mcpops.engine.gates import GATES, GateInputs, approval, backup_age, freeze, gate_executors
from mcpops.journal.approvals import decide
from mcpops.model.outcome import Outcome
from mcpops.model.run import StepState
from mcpops.model.step import StepKind
from tests.people import Person, decides, signed
from tests.unit.engine.stand import Stand, step


@pytest.fixture
def stand(tmp_path):
    return Stand(tmp_path, {})


NO_FREEZE = {"deploy_freeze_windows": []}


def inputs(stand, **settings):
    return GateInputs(settings, stand.journal, stand.clock)


def context(stand):
    return SimpleNamespace(run=stand.journal.run("run-1"), seq=1)


@pytest.mark.parametrize("name", GATES)
def test_an_environment_that_says_nothing_is_unknown(stand, name):
    assert GATES[name](None, inputs(stand)).outcome is Outcome.UNKNOWN


def window(stand, begins_s, ends_s):
    at = stand.clock.at
    return {
        "from": to_text(at + timedelta(seconds=begins_s)),
        "until": to_text(at + timedelta(seconds=ends_s)),
        "why": "sale",
    }


@pytest.mark.parametrize(
    ("begins_s", "ends_s", "outcome"),
    [(-60, 60, Outcome.FAILED), (60, 120, Outcome.OK), (-120, -60, Outcome.OK)],
)
def test_a_freeze_window_blocks_while_it_is_open(stand, begins_s, ends_s, outcome):
    report = freeze(None, inputs(stand, deploy_freeze_windows=[window(stand, begins_s, ends_s)]))

    assert report.outcome is outcome


@pytest.mark.parametrize(
    "bad",
    [
        [{"from": "2026-01-01"}], [{"from": "soon", "until": "later"}], ["monday"], "monday", True, 7,
        [{"from": 2026, "until": 2027}], [{"from": None, "until": None}], {"from": "2026-01-01"},
    ],
)  # fmt: skip
def test_a_freeze_window_that_cannot_be_read_is_unknown(stand, bad):
    assert freeze(None, inputs(stand, deploy_freeze_windows=bad)).outcome is Outcome.UNKNOWN


def test_a_backup_that_is_asked_for_is_unknown_without_one(stand):
    assert backup_age(None, inputs(stand, deploy_backup_max_age_s=3600)).outcome is Outcome.UNKNOWN
    assert backup_age(None, inputs(stand, deploy_backup_max_age_s=None)).outcome is Outcome.OK


def waiting(stand):
    stand.script["prepare gate"] = GateWaits("approval")
    stand.drive(stand.begin(step("gate", kind=StepKind.GATE, gate="approval")))
    return stand.journal.run("run-1")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Grace, who may approve; Eve, who may not; Ada, who asks, and has a key too."""
    home = tmp_path_factory.mktemp("people")
    found = SimpleNamespace(**{name: Person.make(home, f"{name}@example.com") for name in ("grace", "eve", "ada")})
    found.file = home / "approvers"
    found.file.write_text("# who may approve\n" + found.grace.line + found.ada.line)
    return found


def asks(stand, people, **settings):
    """Inputs of an environment that asks for approval."""
    wanted = inputs(stand, deploy_approval="required", **(NO_FREEZE | settings))
    return replace(wanted, approvers=people.file)


def test_approval_waits_for_another_person_and_this_plan(stand, people):
    run = waiting(stand)
    asked = asks(stand, people)
    with pytest.raises(GateWaits):
        approval(context(stand), asked)

    decides(stand, people.grace)

    report = approval(context(stand), asked)
    assert (report.outcome, report.results[0].message) == (Outcome.OK, "approved by grace@example.com")
    other = SimpleNamespace(run=replace(run, plan_digest="sha256:other"), seq=1)
    with pytest.raises(GateWaits):
        approval(other, asked)


@pytest.mark.parametrize(
    ("signer", "settings", "said"),
    [
        (None, {"by": "grace@example.com"}, "no key of an approver"),
        ("eve", {"by": "grace@example.com"}, "no key of an approver"),
        ("ada", {}, "ada asked for this run"),
        ("ada", {"by": "bob"}, "ada asked for this run"),
    ],
)
def test_an_approval_that_no_other_approver_signed_opens_nothing(stand, people, signer, settings, said):
    """The journal's row alone is not enough: whoever can write the database cannot forge a signature."""
    waiting(stand)
    decides(stand, getattr(people, signer or "", None), **settings)

    report = approval(context(stand), asks(stand, people))

    assert (report.outcome, said in report.reason) == (Outcome.FAILED, True), report.reason


@pytest.mark.parametrize("changes", [{"seq": 7}, {"run_id": "run-9"}, {"decision": "reject"}])
def test_an_approval_of_something_else_opens_nothing(stand, people, changes):
    run = waiting(stand)
    other = signed(run, people.grace, stand.clock, **changes)
    moved = replace(other, seq=1, run_id=run.id, decision="approve")
    decide(stand.store, run, moved)

    assert approval(context(stand), asks(stand, people)).outcome is Outcome.FAILED


def test_an_approval_ends_and_then_another_one_is_waited_for(stand, people):
    waiting(stand)
    decides(stand, people.grace, lasts=timedelta(minutes=10))
    stand.clock.at += timedelta(minutes=11)

    with pytest.raises(GateWaits, match="a new approval"):
        approval(context(stand), asks(stand, people))

    decides(stand, people.grace, lasts=timedelta(hours=10))
    assert approval(context(stand), asks(stand, people)).outcome is Outcome.OK
    stand.clock.at += timedelta(minutes=2)
    with pytest.raises(GateWaits, match="a new approval"):
        approval(context(stand), asks(stand, people, deploy_approval_max_age_s=60))


def test_whoever_is_no_approver_any_more_opens_nothing(stand, people):
    waiting(stand)
    decides(stand, people.grace)

    gone = replace(asks(stand, people), approvers=None)

    assert approval(context(stand), gone).outcome is Outcome.UNKNOWN
    assert approval(context(stand), replace(gone, planned=True)).outcome is Outcome.OK, "the plan says nothing of it"


def test_a_rejection_fails_and_is_final(stand, people):
    waiting(stand)

    decides(stand, people.grace, decision="reject")
    decides(stand, people.grace)

    report = approval(context(stand), asks(stand, people))
    assert (report.outcome, report.reason) == (Outcome.FAILED, "rejected by grace@example.com")


def test_a_run_that_waits_for_nothing_cannot_be_decided(stand):
    stand.drive(stand.begin(step("one")))
    assert stand.journal.run("run-1").steps[0].state is StepState.DONE

    with pytest.raises(UsageError, match="waits for no decision"):
        decides(stand, by="grace")


def test_a_word_that_is_neither_is_unknown(stand):
    assert approval(None, inputs(stand, deploy_approval="maybe")).outcome is Outcome.UNKNOWN


def test_an_approval_does_not_open_a_freeze_window_that_began_meanwhile(stand, people):
    waiting(stand)
    decides(stand, people.grace)

    report = approval(context(stand), asks(stand, people, deploy_freeze_windows=[window(stand, -60, 60)]))

    assert report.outcome is Outcome.FAILED


def test_no_approval_wanted_does_not_open_a_freeze_window_either(stand):
    """The switch follows at once, perhaps long after the freeze gate was asked: a run may have been interrupted."""
    frozen = inputs(stand, deploy_approval="not_required", deploy_freeze_windows=[window(stand, -60, 60)])

    report = approval(None, frozen)

    assert (report.outcome, [row.task for row in report.results]) == (Outcome.FAILED, ["freeze"])
    assert approval(None, inputs(stand, deploy_approval="not_required", **NO_FREEZE)).outcome is Outcome.OK


def test_a_refusal_at_the_approval_is_the_rule_s_and_not_a_person_s(stand):
    waiting(stand)
    decides(stand, by="grace", decision="reject")

    report = approval(context(stand), inputs(stand, deploy_approval="required", **NO_FREEZE))

    assert [row.task for row in report.results] == ["approval"]


def test_an_environment_may_become_stricter_while_a_run_waits_but_never_laxer(stand, people):
    waiting(stand)
    strict = asks(stand, people)
    lax = inputs(stand, deploy_approval="not_required", **NO_FREEZE)
    gate = gate_executors([strict, lax])["approval"]
    with pytest.raises(GateWaits):
        gate(context(stand)).prepare()
    with pytest.raises(GateWaits):
        gate_executors([lax, strict])["approval"](context(stand)).prepare()

    decides(stand, people.grace)

    execution = gate(context(stand))
    execution.prepare()
    assert execution.act().outcome is Outcome.OK
