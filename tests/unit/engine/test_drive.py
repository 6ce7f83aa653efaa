"""Driving a run on a real journal, with executions that a test scripts."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from mcpops.core.errors import Broken, Busy, ExitCode, Failed, Fenced, InternalError, Unknown, UsageError
from mcpops.engine.execution import GateWaits
from mcpops.journal import tables
from mcpops.journal.trouble import Damaged, Unavailable
from mcpops.journal.writes import RunWriter
from mcpops.model.outcome import AttemptReport, Outcome, Result
from mcpops.model.run import RunState, StepState
from mcpops.model.step import OnInterrupt, StepKind
from tests.unit.engine.stand import CHANGED, FAILED, OK, UNKNOWN, Stand, crash, step


@pytest.fixture
def stand(tmp_path):
    return Stand(tmp_path, {})


def test_steps_run_in_order_between_intent_and_outcome(stand):
    seen = []

    def look(context):
        open_attempt = stand.journal.run("run-1").steps[context.seq - 1].attempts[-1]
        seen.append((context.step.name, open_attempt.outcome))
        return CHANGED

    stand.script.update(one=look, two=look)

    end = stand.drive(stand.begin(step("one"), step("two")))

    assert end.exit_code is ExitCode.OK
    assert seen == [("one", None), ("two", None)], "an INTENT stands in the journal while a step acts"
    run = stand.journal.run("run-1")
    assert [record.attempts[-1].outcome for record in run.steps] == [Outcome.CHANGED, Outcome.CHANGED]
    assert run.state is RunState.DONE
    assert stand.journal.lease("lab") is None


def test_outputs_of_a_step_are_variables_of_the_next(stand):
    stand.script["one"] = AttemptReport(outcome=Outcome.OK, outputs={"slot": "green"})
    stand.script["two"] = lambda context: AttemptReport(outcome=Outcome.OK, outputs={"saw": dict(context.variables)})

    stand.drive(stand.begin(step("one"), step("two")))

    assert stand.journal.run("run-1").steps[1].outputs == {"saw": {"release": "r1", "slot": "green"}}


def test_a_failure_takes_back_what_was_done_the_last_first(stand):
    stand.script["three"] = FAILED

    end = stand.drive(stand.begin(step("one", undo=True), step("two", undo=True), step("three"), step("four")))

    assert stand.acted() == ["one", "two", "three", "undo two", "undo one"]
    assert (end.state, end.exit_code) == (RunState.ROLLED_BACK, ExitCode.ROLLED_BACK)
    undone = stand.journal.run("run-1").steps[4:]
    assert [(record.step.kind, record.undo_of) for record in undone] == [(StepKind.UNDO, 2), (StepKind.UNDO, 1)]


def test_an_unknown_outcome_blocks_like_a_failure(stand):
    stand.script["one"] = UNKNOWN

    end = stand.drive(stand.begin(step("one"), step("two")))

    assert end.exit_code is ExitCode.UNKNOWN
    assert stand.acted() == ["one"]


def test_a_failed_undo_locks_the_environment_until_the_run_is_abandoned(stand):
    stand.script.update({"one": FAILED, "undo one": FAILED})

    end = stand.drive(stand.begin(step("one", undo=True)))

    assert (end.state, end.exit_code) == (RunState.BROKEN, ExitCode.BROKEN)
    with pytest.raises(Broken, match="locked"):
        stand.begin(step("one"), run_id="run-2")


@pytest.mark.parametrize(("error", "outcome"), [(Failed("no"), Outcome.FAILED), (Unknown("?"), Outcome.UNKNOWN)])
@pytest.mark.parametrize("when", ["one", "prepare one"])
def test_an_error_of_ours_is_the_outcome_of_the_step(stand, error, outcome, when):
    stand.script[when] = error

    stand.drive(stand.begin(step("one", undo=True)))

    assert stand.journal.run("run-1").steps[0].attempts[-1].outcome is outcome
    assert "close one" in stand.log


def test_what_is_secret_is_in_no_record_whoever_said_it(stand):
    stand.secrets = ["hunter22"]
    heard = []
    result = Result(host="h", task="ask hunter22", outcome=Outcome.FAILED, message="as hunter22@h")

    def told(context):
        context.on_result(result)
        return AttemptReport(outcome=Outcome.FAILED, reason="no hunter22", results=(result,))

    stand.script |= {"one": Failed("hunter22 is away"), "undo one": told}
    stand.listener.result = lambda record, result: heard.append(result)

    stand.drive(stand.begin(step("one", undo=True, direct="cutover")))

    run = stand.journal.run("run-1")
    assert "hunter22" not in repr(run) + repr(heard)
    assert run.steps[0].attempts[-1].reason == "*** is away"
    assert (heard[0].task, heard[0].message) == ("ask ***", "as ***@h")


def test_a_host_that_refuses_the_fence_ends_the_run_without_undo(stand):
    stand.script["two"] = Fenced("a rollback took over", detail="fence 9")

    with pytest.raises(Fenced):
        stand.drive(stand.begin(step("one", undo=True), step("two", undo=True)))

    run = stand.journal.run("run-1")
    assert (run.state, run.exit_code) == (RunState.FAILED, ExitCode.FENCED)
    assert stand.acted() == ["one", "two"], "whoever took over decides; this run takes nothing back"


def test_a_lost_lease_stops_the_run_before_it_writes(stand):
    writer = stand.begin(step("one"), step("two"))
    later = tables.environment.update().values(fence=writer.lease.fence + 1)

    def lose(_context):
        with stand.store.write() as connection:
            connection.execute(later)
        return CHANGED

    stand.script["one"] = lose

    with pytest.raises(Fenced):
        stand.drive(writer)

    assert stand.acted() == ["one"]
    assert stand.journal.run("run-1").steps[0].attempts[-1].outcome is None


def test_another_run_is_told_who_holds_the_lease(stand):
    stand.begin(step("one"))

    with pytest.raises(Busy) as caught:
        stand.begin(step("one"), run_id="run-2")

    assert "run-1" in caught.value.detail
    assert caught.value.hint


def test_an_interrupted_run_admits_only_itself(stand):
    writer = stand.begin(step("one"), step("two"))
    stand.script["one"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        stand.drive(writer)
    crash(stand, writer)

    with pytest.raises(Busy, match="another run"):
        stand.begin(step("one"), run_id="run-2")

    stand.script["one"] = CHANGED
    end = stand.drive(RunWriter.take_over(stand.store, stand.clock, "lab", "run-1"))
    assert end.exit_code is ExitCode.OK


@pytest.mark.parametrize(
    ("answer", "acted"),
    [
        ("done", ["one", "one", "two"]),
        ("not_done", ["one", "one", "one", "two"]),
        ("partial", ["one", "one", "one", "two"]),
    ],
)
def test_a_probe_decides_whether_an_interrupted_step_runs_again(stand, answer, acted):
    writer = stand.begin(step("one"), step("two"))
    stand.script["one"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        stand.drive(writer)
    crash(stand, writer)
    stand.script["one"] = CHANGED
    stand.script["probe one"] = AttemptReport(outcome=Outcome.OK, outputs={"probe": answer})

    stand.drive(RunWriter.take_over(stand.store, stand.clock, "lab", "run-1"))

    assert stand.acted() == acted


def test_a_step_that_asks_is_unknown_after_a_crash(stand):
    writer = stand.begin(step("one", on_interrupt=OnInterrupt.ASK))
    stand.script["one"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        stand.drive(writer)
    crash(stand, writer)

    end = stand.drive(RunWriter.take_over(stand.store, stand.clock, "lab", "run-1"))

    assert end.exit_code is ExitCode.UNKNOWN


def test_a_gate_that_waits_gives_the_lease_back_and_is_asked_again(stand):
    stand.script["prepare gate"] = GateWaits("approval by another person")
    gate = step("gate", kind=StepKind.GATE, gate="approval")

    end = stand.drive(stand.begin(gate, step("two")))

    assert (end.exit_code, end.reason) == (ExitCode.WAITING, "approval by another person")
    assert stand.journal.run("run-1").steps[0].state is StepState.WAITING
    assert stand.journal.lease("lab") is None
    del stand.script["prepare gate"]
    assert stand.drive(RunWriter.take_over(stand.store, stand.clock, "lab", "run-1")).exit_code is ExitCode.OK


@pytest.mark.parametrize("table", ["record", "result"])
def test_a_changed_row_is_found(stand, table):
    stand.drive(stand.begin(step("one")))
    assert stand.journal.integrity("run-1")[1] is None
    changes = {"record": tables.record.update().values(body={}), "result": tables.result.update().values(message="!")}

    with stand.store.write() as connection:
        connection.execute(changes[table])

    assert stand.journal.integrity("run-1")[1] is not None


def test_a_removed_row_is_found(stand):
    stand.drive(stand.begin(step("one")))
    with stand.store.write() as connection:
        connection.execute(tables.record.delete().where(tables.record.c.n == 2))
        assert connection.execute(select(tables.record.c.n)).first()

    assert "row 2 is missing" in str(stand.journal.integrity("run-1")[1])


def test_a_timeout_bounds_what_goes_forward_and_not_what_takes_back(stand):
    bounds = {}

    def look(context):
        bounds[context.step.name] = context.step.timeout_s
        return FAILED if context.step.name == "two" else CHANGED

    stand.script.update({"one": look, "two": look, "undo one": look})

    stand.drive(stand.begin(step("one", undo=True), step("two")), timeout_s=30)

    assert bounds["one"] <= 30
    assert bounds["two"] <= 30
    assert bounds["undo one"] == 600


def test_nothing_is_cut_once_a_step_that_commits_is_done(stand):
    bounds = {}

    def look(context):
        bounds[context.step.name] = context.step.timeout_s
        return CHANGED

    stand.script.update({"bake": look, "drain": look})

    stand.drive(stand.begin(step("bake", commits=True), step("drain")), timeout_s=30)

    assert bounds["bake"] <= 30, "what can still be taken back is cut"
    assert bounds["drain"] == 600


def test_an_undo_may_do_less_than_its_step_had_to_show(stand):
    asked = {}

    def look(context):
        asked[context.step.name] = (context.step.minimum_checks, context.step.minimum_hosts)
        return FAILED if context.step.name == "one" else CHANGED

    stand.script.update({"one": look, "undo one": look})

    end = stand.drive(stand.begin(step("one", undo=True, minimum_checks=3, minimum_hosts=2)))

    assert asked == {"one": (3, 2), "undo one": (1, 1)}
    assert end.exit_code is ExitCode.ROLLED_BACK


def broken(stand):
    """A run of which the first of two undos failed."""
    stand.script |= {"two": FAILED, "undo two": FAILED}
    end = stand.drive(stand.begin(step("one", undo=True), step("two", undo=True)))
    assert (end.exit_code, stand.acted()) == (ExitCode.BROKEN, ["one", "two", "undo two"])
    stand.log.clear()


def resume(stand):
    return stand.drive(RunWriter.take_over(stand.store, stand.clock, "lab", "run-1"))


def test_a_resume_of_a_broken_run_tries_the_undo_again_then_the_others(stand):
    broken(stand)
    stand.script["undo two"] = CHANGED

    end = resume(stand)

    assert stand.acted() == ["undo two", "undo one"]
    assert (end.state, end.exit_code) == (RunState.ROLLED_BACK, ExitCode.ROLLED_BACK)
    run = stand.journal.run("run-1")
    assert [len(record.attempts) for record in run.steps] == [1, 1, 2, 1]
    assert (run.exit_code, stand.journal.locked_by("lab")) == (5, None)
    assert stand.journal.integrity("run-1")[1] is None
    stand.begin(step("one"), run_id="run-2")


def test_a_broken_run_whose_undo_fails_again_stays_broken(stand):
    broken(stand)

    end = resume(stand)

    assert (end.state, end.exit_code, stand.acted()) == (RunState.BROKEN, ExitCode.BROKEN, ["undo two"])
    assert stand.journal.locked_by("lab") == "run-1"
    with pytest.raises(Broken) as caught:
        stand.begin(step("one"), run_id="run-2")
    assert "mcpops runs resume run-1" in caught.value.hint


def test_a_broken_run_that_is_resumed_and_killed_is_still_locked_and_can_be_resumed(stand):
    broken(stand)
    stand.script["undo two"] = KeyboardInterrupt()
    writer = RunWriter.take_over(stand.store, stand.clock, "lab", "run-1")
    with pytest.raises(KeyboardInterrupt):
        stand.drive(writer)
    crash(stand, writer)
    assert stand.journal.locked_by("lab") == "run-1"

    stand.script["undo two"] = CHANGED

    assert resume(stand).exit_code is ExitCode.ROLLED_BACK


def test_a_step_that_cannot_be_made_has_failed_and_what_was_done_is_taken_back(stand):
    stand.unmade["two"] = UsageError("step two does not know its slot", hint="hand on `slot`")

    end = stand.drive(stand.begin(step("one", undo=True), step("two", direct="cutover")))

    assert stand.acted() == ["one", "undo one"]
    assert (end.exit_code, end.reason) == (
        ExitCode.ROLLED_BACK,
        "step two: step two does not know its slot; hand on `slot`",
    )
    assert stand.journal.lease("lab") is None


def test_a_probe_that_cannot_be_made_found_nothing(stand):
    writer = stand.begin(step("one"))
    stand.script["one"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        stand.drive(writer)
    crash(stand, writer)
    stand.script["one"] = CHANGED
    stand.unmade["probe one"] = InternalError("step 'one' is not one play")

    assert resume(stand).exit_code is ExitCode.OK


def test_what_the_journal_cannot_say_is_no_outcome_of_a_step(stand):
    stand.script["prepare two"] = Unavailable("the journal is in use by another process")

    with pytest.raises(Unavailable):
        stand.drive(stand.begin(step("one", undo=True), step("two")))

    assert stand.acted() == ["one"]
    assert stand.journal.run("run-1").state is RunState.RUNNING


def test_a_run_that_a_host_refused_shows_no_step_that_runs_for_ever(stand):
    stand.script["two"] = Fenced("front1 refused run run-1", detail="fence 9")

    with pytest.raises(Fenced):
        stand.drive(stand.begin(step("one"), step("two")))

    two = stand.journal.run("run-1").steps[1]
    assert (two.state, two.attempts[-1].outcome) == (StepState.UNKNOWN, Outcome.UNKNOWN)
    assert "front1 refused run run-1" in two.attempts[-1].reason
    assert stand.journal.integrity("run-1")[1] is None


GATE = step("freeze", kind=StepKind.GATE, gate="freeze")
FROZEN = AttemptReport(
    outcome=Outcome.FAILED,
    reason="frozen until Monday",
    results=(Result(host="control", task="freeze", outcome=Outcome.FAILED),),
)


def test_a_safety_rule_that_says_no_is_a_refusal(stand):
    stand.script["freeze"] = FROZEN

    end = stand.drive(stand.begin(GATE, step("one", undo=True)))

    assert (end.state, end.exit_code) == (RunState.FAILED, ExitCode.REFUSED)


def killed_in(stand, name, *steps):
    """A run that was killed in a step; a freeze window begins before its resume."""
    writer = stand.begin(GATE, *steps)
    stand.script[name] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        stand.drive(writer)
    crash(stand, writer)
    stand.script |= {name: CHANGED, "freeze": FROZEN}
    stand.log.clear()


STAGE, CUTOVER = step("stage", undo=True), step("cutover", direct="cutover", undo=True)
BAKE, DRAIN = step("bake", direct="bake", commits=True), step("drain")


@pytest.mark.parametrize(("name", "taken_back"), [("stage", ["stage"]), ("cutover", ["cutover", "stage"])])
def test_a_resume_in_a_freeze_window_does_not_switch(stand, name, taken_back):
    killed_in(stand, name, STAGE, CUTOVER, BAKE)

    end = resume(stand)

    assert stand.acted() == ["freeze", *(f"undo {step}" for step in taken_back)]
    assert (end.exit_code, end.reason) == (ExitCode.ROLLED_BACK, "step freeze: frozen until Monday")
    run = stand.journal.run("run-1")
    assert StepState.RUNNING not in {record.state for record in run.steps}
    assert stand.journal.integrity("run-1")[1] is None


@pytest.mark.parametrize("name", ["bake", "drain"])
def test_a_resume_in_a_freeze_window_goes_on_where_the_switch_was_before_it(stand, name):
    killed_in(stand, name, STAGE, CUTOVER, BAKE, DRAIN)

    assert resume(stand).exit_code is ExitCode.OK
    assert "freeze" not in stand.acted()


def test_a_run_that_waits_for_an_approval_goes_on_waiting_in_a_freeze_window(stand):
    stand.script["prepare approval"] = GateWaits("approval")
    stand.drive(stand.begin(GATE, STAGE, step("approval", kind=StepKind.GATE, gate="approval"), CUTOVER))
    stand.script["freeze"] = FROZEN

    assert resume(stand).exit_code is ExitCode.WAITING


def test_a_takeover_takes_the_hosts_whatever_its_first_step_must_show(stand):
    """`minimum_checks` of a step says how much work it shows; taking the hosts is one task."""
    writer = stand.begin(step("one", minimum_checks=9, minimum_hosts=5))
    crash(stand, writer)
    seen = []
    stand.script["barrier"] = lambda context: seen.append(context.step) or OK

    stand.drive(RunWriter.take_over(stand.store, stand.clock, "lab", "run-1"))

    assert [(one.minimum_checks, one.minimum_hosts) for one in seen] == [(1, None)]


def test_a_host_that_does_not_answer_stops_a_takeover_which_can_be_tried_again(stand):
    writer = stand.begin(step("one"))
    crash(stand, writer)
    stand.script["barrier"] = AttemptReport(outcome=Outcome.UNREACHABLE, reason="h2 does not answer")

    with pytest.raises(Unknown, match="may still act") as caught:
        stand.drive(RunWriter.take_over(stand.store, stand.clock, "lab", "run-1"))

    assert "h2 does not answer" in caught.value.detail
    assert stand.acted() == []
    writer = RunWriter(stand.store, stand.clock, stand.journal.lease("lab"))
    crash(stand, writer)
    del stand.script["barrier"]
    assert stand.drive(RunWriter.take_over(stand.store, stand.clock, "lab", "run-1")).state is RunState.DONE


def test_a_step_that_is_changed_in_the_journal_under_way_is_not_done(stand):
    def forge(_context):
        with stand.store.write() as connection:
            second = tables.step.c.seq == 2
            spec = {**stand.journal.run("run-1").steps[1].step.__dict__, "body": "- evil", "roles": []}
            connection.execute(tables.step.update().where(second).values(spec=spec))
        return OK

    stand.script["one"] = forge

    with pytest.raises(Damaged, match="was changed in the journal"):
        stand.drive(stand.begin(step("one"), step("two")))

    assert stand.acted() == ["one"]
