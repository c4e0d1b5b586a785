"""An execution is the fold of its events: in every valid order, no step is lost or invented."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responder.rollback.events import (
    ApprovalRequested,
    Approved,
    Closed,
    Event,
    EvidenceCollected,
    Outcome,
    Planned,
    Resumed,
    RetriesExhausted,
    StepCompleted,
    StepFailed,
    StepStarted,
    StopRequested,
)
from responder.rollback.execution import Execution, State, begin, fold, seconds_between
from responder.rollback.plan import Change, Gate, Mitigation, Plan, ServicePlan, revert_steps
from tests.responder.examples import NOW, accepted, change, gate, plan, release, version_change

FIRST, SECOND, LAST = change(), change("blue", "green", resource=release("/srv/pointer")), gate(otherwise="freeze")
PLAN = plan(FIRST, SECOND, LAST)


def planned(of: Plan = PLAN) -> Planned:
    return Planned(at=NOW, plan=of)


def started(step: int) -> StepStarted:
    return StepStarted(at=NOW, step=step, title="")


def done(step: int, changed: bool = True) -> StepCompleted:
    return StepCompleted(at=NOW, step=step, changed=changed)


def halted(step: int | None, freeze: bool = False) -> StepFailed:
    return StepFailed(at=NOW, step=step, reason="no", freeze=freeze)


def stopped(hold: bool = False) -> StopRequested:
    return StopRequested(at=NOW, by="alice", reason="enough", hold=hold)


def closed(outcome: Outcome = "failed") -> Closed:
    return Closed(at=NOW, outcome=outcome, by="alice", reason="")


HELD = ApprovalRequested(at=NOW, reason="production", until=NOW)
APPROVED = Approved(at=NOW, by="alice", plan_hash=PLAN.hash)
GAVE_UP = RetriesExhausted(at=NOW, reason="too often")
RESUMED = Resumed(at=NOW, worker="b")


def after(*events: Event) -> Execution:
    return fold("x", [accepted(), *events])


@pytest.mark.parametrize(
    ("events", "state", "ending"),
    [
        ([], "accepted", None),
        ([planned()], "running", None),
        ([planned(), HELD], "awaiting_approval", None),
        ([planned(), HELD, APPROVED], "running", None),
        ([planned(), started(0)], "running", None),
        ([planned(), started(0), done(0), started(1), done(1), started(2), done(2)], "running", "succeeded"),
        ([halted(None)], "reverting", "failed"),
        ([planned(), started(0), halted(0)], "reverting", None),
        ([planned(), started(0), halted(0), started(1), done(1, False)], "reverting", "failed"),
        ([planned(), started(0), halted(0), started(1), done(1, True)], "reverting", "reverted"),
        ([planned(), started(0), halted(0, freeze=True)], "stuck", None),
        ([planned(), started(0), halted(0), started(1), halted(1)], "stuck", None),
        ([planned(), started(0), done(0), stopped()], "reverting", None),
        ([planned(), started(0), done(0), stopped(), started(1), done(1)], "reverting", "cancelled"),
        ([planned(), stopped()], "reverting", "cancelled"),
        ([stopped()], "reverting", "cancelled"),
        ([planned(), HELD, stopped()], "reverting", "cancelled"),
        ([planned(), started(0), stopped(hold=True)], "stuck", None),
        ([GAVE_UP], "stuck", None),
        ([planned(), started(0), GAVE_UP], "stuck", None),
        ([planned(), started(0), GAVE_UP, closed()], "closed", None),
        ([planned(), started(0), RESUMED], "running", None),
    ],
)
def test_state_and_outcome(events: list[Event], state: State, ending: Outcome | None) -> None:
    execution = after(*events)
    assert (execution.state, execution.ending) == (state, ending)
    assert execution.seq == len(events)
    assert execution.live is (state in ("accepted", "running", "reverting"))


def test_completed_steps_move_from_todo_to_done() -> None:
    execution = after(planned(), started(0), done(0), started(1))
    assert (execution.taken, execution.current, execution.todo) == ((FIRST,), SECOND, (SECOND, LAST))
    assert execution.steps_started == 2
    assert execution.changed


def test_a_step_that_failed_midway_is_also_reverted() -> None:
    execution = after(planned(), started(0), done(0), started(1), halted(1))
    assert execution.todo == (SECOND.inverse(), FIRST.inverse())
    assert (execution.taken, execution.current) == ((), None)


def test_a_stop_between_two_steps_reverts_only_completed_steps() -> None:
    assert after(planned(), started(0), done(0), stopped()).todo == (FIRST.inverse(),)


def test_a_stop_that_holds_reverts_nothing() -> None:
    execution = after(planned(), started(0), done(0), stopped(hold=True))
    assert (execution.todo, execution.taken) == ((), (FIRST,))


def test_a_resumption_changes_only_the_number() -> None:
    before = after(planned(), started(0))
    assert before.after(RESUMED) == before.model_copy(update={"seq": before.seq + 1})


def test_a_step_restarted_after_a_crash_counts_once() -> None:
    execution = after(planned(), started(0), RESUMED, started(1), done(1))
    assert (execution.taken, execution.todo) == ((FIRST,), (SECOND, LAST))
    assert execution.steps_started == 2


@pytest.mark.parametrize(
    ("events", "failed"),
    [
        ([planned(), started(0), done(0), started(1), done(1), started(2), halted(2, freeze=True)], True),
        ([planned(), started(0), done(0), started(1), done(1), started(2), GAVE_UP], True),
        ([planned(), started(0), done(0), started(1), halted(1, freeze=True)], False),
        ([planned(), started(0), done(0), started(1), halted(1), started(2), halted(2)], False),
        ([planned(), started(0), halted(0), started(1), done(1)], False),
        ([halted(None)], False),
        ([GAVE_UP], False),
        ([planned(plan(FIRST, gate(otherwise="revert"))), started(0), done(0), started(1), GAVE_UP], False),
        ([planned(plan(FIRST, SECOND)), started(0), done(0), started(1), GAVE_UP], False),
        ([planned(), started(0), done(0), started(1), done(1), started(2), stopped(hold=True)], False),
    ],
)
def test_verification_failed_only_if_every_change_was_made(events: list[Event], failed: bool) -> None:
    execution = after(*events)
    assert execution.verification_failed is failed
    assert after(*events, closed("failed")).verification_failed is failed
    assert after(*events, closed("succeeded")).verification_failed is False


def test_verification_has_not_failed_while_it_is_checked() -> None:
    assert not after(planned(), started(0), done(0), started(1), done(1), started(2)).verification_failed


def test_the_reason_is_always_the_latest_one() -> None:
    assert after(planned(), HELD).reason == "production"
    assert after(planned(), HELD, APPROVED).reason == "approved by alice"
    assert after(planned(), HELD, APPROVED, closed("succeeded")).reason == "", "the alert is the reason"
    assert after(planned(), started(0), halted(0)).reason == "no"
    assert after(planned(), stopped()).reason == "stopped by alice: enough"
    assert after(planned(), stopped(), closed("cancelled")).reason == "stopped by alice: enough"
    closing = Closed(at=NOW, outcome="failed", by="alice", reason="by hand")
    assert after(GAVE_UP, closing).reason == "by hand"


def test_a_closed_execution_has_its_time_and_outcome() -> None:
    execution = after(planned(), stopped(), closed("cancelled"))
    assert (execution.outcome, execution.ended_at, execution.todo) == ("cancelled", NOW, ())


def test_a_closed_execution_has_no_steps_left() -> None:
    assert after(planned(), HELD, closed("cancelled")).todo == ()


def test_a_fold_starts_with_accepted() -> None:
    with pytest.raises(ValueError, match="starts with planned, not accepted"):
        fold("x", [planned()])


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_an_approval_is_for_one_plan() -> None:
    waiting = after(planned(), HELD)
    assert (waiting.approve_before, waiting.approved_by, waiting.although_resolved) == (NOW, None, False)
    approved = waiting.after(Approved(at=NOW, by="alice", plan_hash=PLAN.hash, although_resolved=True))
    assert (approved.approve_before, approved.approved_by, approved.although_resolved) == (None, "alice", True)
    again = approved.after(planned()).after(ApprovalRequested(at=NOW, reason="it changed", until=later(60)))
    assert (again.approve_before, again.approved_by, again.although_resolved) == (later(60), None, False)
    assert again.reason == "it changed"


def test_a_resumed_step_keeps_the_time_of_its_first_start() -> None:
    resumed = after(planned(), started(0), RESUMED, StepStarted(at=later(60), step=1, title=""))
    assert resumed.current_since == NOW
    following = resumed.after(done(1)).after(StepStarted(at=later(90), step=2, title=""))
    assert following.current_since == later(90)


@pytest.mark.parametrize(
    ("events", "progress"),
    [
        ([], ""),
        ([started(0), done(0)], "a is between 2.1 and 2.0; b is still 2.1; c is still 2.1"),
        ([started(0), done(0), started(1)], "a is between 2.1 and 2.0; b is still 2.1; c is still 2.1"),
        ([started(0), done(0), started(1), done(1)], "a is back at 2.0; b is still 2.1; c is still 2.1"),
        (
            [started(0), done(0), started(1), done(1), started(2)],
            "a is back at 2.0; b is between 2.1 and 2.0; c is still 2.1",
        ),
    ],
)
def test_progress_names_each_service_if_they_differ(events: list[Event], progress: str) -> None:
    resources = [release(f"/srv/{name}") for name in ("a", "a2", "b", "c")]
    parts = tuple(
        ServicePlan(version=version_change(name), steps=steps) for name, steps in zip("abc", (2, 1, 1), strict=True)
    )
    of = Plan(parts=parts, steps=(*(change(resource=resource) for resource in resources), LAST))
    assert after(planned(of), *events).progress == progress


AB = Plan(
    parts=tuple(ServicePlan(version=version_change(name), steps=steps) for name, steps in (("a", 1), ("b", 2))),
    steps=(FIRST, change("on", "off", resource=release("/srv/snapshot"), one_way=True), SECOND, LAST),
)


def test_a_partial_rollback_that_is_stuck_names_each_service() -> None:
    stuck = after(planned(AB), started(0), done(0), GAVE_UP)
    assert stuck.reason == "too often (partial: a is back at 2.0; b is still 2.1)"


def test_a_change_that_is_never_reverted_is_no_progress() -> None:
    execution = after(planned(AB), started(0), done(0), started(1), done(1))
    assert execution.progress == "a is back at 2.0; b is still 2.1"


def test_a_revert_under_way_leaves_the_service_between_its_versions() -> None:
    reverting = after(planned(AB), started(0), done(0), stopped(), started(1))
    assert reverting.progress == "a is between 2.1 and 2.0; b is still 2.1"


def test_a_new_execution_has_no_progress() -> None:
    execution = after()
    assert not any((execution.cancelled, execution.cancelled_by_guard, execution.although_resolved, execution.changed))


def test_evidence_is_kept_with_the_execution() -> None:
    evidence = EvidenceCollected(at=NOW, note="3 files")
    assert after(evidence, planned()).evidence == evidence


ONE_WAY = change("on", "off", resource=release("/srv/snapshot"), one_way=True)


@pytest.mark.parametrize(
    ("steps", "events", "begun"),
    [
        ((FIRST, LAST), [], False),
        ((FIRST, LAST), [started(0)], True),  # it may have had its effect before a crash
        ((FIRST, LAST), [started(0), done(0)], True),
        ((FIRST, LAST), [started(0), done(0, changed=False)], False),
        ((ONE_WAY, FIRST), [started(0)], False),
        ((ONE_WAY, FIRST), [started(0), done(0)], False),
        ((ONE_WAY, FIRST), [started(0), done(0), started(1)], True),
        ((LAST, FIRST), [started(0)], False),
        ((LAST, FIRST), [started(0), done(0, changed=False)], False),
    ],
)
def test_it_has_begun_with_the_first_change_that_would_be_reverted(
    steps: tuple[Change | Gate, ...], events: list[Event], begun: bool
) -> None:
    assert after(planned(plan(*steps)), *events).has_begun is begun


def test_the_last_change_of_each_resource_is_in_place() -> None:
    onward = change("2.0", "1.9")
    execution = after(planned(plan(FIRST, ONE_WAY, SECOND, onward, LAST)), started(0), done(0), started(1), done(1))
    assert execution.in_place == [FIRST]
    execution = execution.after(started(2)).after(done(2)).after(started(3)).after(done(3))
    assert execution.in_place == [onward, SECOND]


@pytest.mark.parametrize(
    ("guard", "forced", "reopens"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_only_a_guard_that_stops_automation_lets_the_alert_open_another(
    guard: bool, forced: bool, reopens: bool
) -> None:
    stop = StopRequested(at=NOW, by="still_firing", reason="already resolved", guard=guard)
    execution = fold("x", [accepted(forced=forced), planned(), stop])
    assert (execution.cancelled, execution.cancelled_by_guard) == (True, reopens)


@pytest.mark.parametrize(
    ("mitigations", "ending"), [((), "succeeded"), ((Mitigation(platform="ios", remains="submit 3"),), "mitigated")]
)
def test_a_plan_with_mitigations_mitigates(mitigations: tuple[Mitigation, ...], ending: str) -> None:
    of = plan(LAST).model_copy(update={"mitigations": mitigations})
    assert after(planned(of), started(0)).ending is None
    assert after(planned(of), started(0), done(0)).ending == ending
    assert after(planned(of), started(0), halted(0, freeze=True)).ending is None


def test_seconds_between_two_moments() -> None:
    assert seconds_between(NOW, later(1.5)) == 1.5


# --- any valid sequence ---
STEPS = st.lists(
    st.sampled_from(
        [
            FIRST,
            SECOND,
            change("on", "off", resource=release("/srv/snapshot"), one_way=True),
            gate(),
            gate(name="other", otherwise="freeze"),
        ]
    ),
    max_size=5,
)


def legal(execution: Execution) -> list[Callable[[], Event]]:
    """The valid next events, as the executor, the worker and the API may write them."""
    match execution.state:
        case "awaiting_approval":
            return [lambda: APPROVED, stopped]
        case "stuck":
            return [closed]
        case "closed":
            return []
    if execution.plan is None and execution.state == "accepted":
        return [lambda: halted(None), lambda: GAVE_UP, stopped, lambda: RESUMED]
    if execution.current is not None:
        step = execution.steps_started - 1
        return [
            lambda: done(step),
            lambda: done(step, False),
            lambda: halted(step),
            lambda: halted(step, freeze=True),
            lambda: RESUMED,
            lambda: started(step + 1),
            lambda: GAVE_UP,
        ]
    if not execution.todo:
        return [lambda: closed(execution.ending or "failed")]
    more: list[Callable[[], Event]] = [lambda: started(execution.steps_started), lambda: RESUMED]
    return [*more, stopped, lambda: stopped(hold=True)] if execution.state == "running" else more


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    of = plan(*draw(STEPS)) if draw(st.booleans()) else PLAN
    events: list[Event] = [accepted()]
    execution = begin("x", accepted())
    if draw(st.integers(0, 9)):
        events.append(planned(of))
        if draw(st.booleans()):
            events.append(HELD)
    execution = fold("x", events)
    for _ in range(draw(st.integers(0, 25))):
        choices = legal(execution)
        if not choices:
            break
        event = draw(st.sampled_from(choices))()
        events.append(event)
        execution = execution.after(event)
    return events


def prefixes(events: list[Event]) -> Iterable[Execution]:
    return (fold("x", events[: n + 1]) for n in range(len(events)))


def changes(steps: Iterable[Change | Gate]) -> list[Change]:
    return [step for step in steps if isinstance(step, Change)]


@given(histories())
def test_the_invariants_hold_for_all_events(events: list[Event]) -> None:
    before: Execution | None = None
    ever_taken: tuple[Change | Gate, ...] = ()
    for number, execution in enumerate(prefixes(events)):
        assert execution.seq == number
        if execution.state in ("stuck", "closed"):
            assert not execution.todo, "a stuck or closed execution has nothing to do"
            assert not execution.live
        if execution.current is not None:
            assert execution.todo[0] == execution.current
        if execution.plan and execution.state in ("running", "awaiting_approval"):
            assert (*execution.taken, *execution.todo) == execution.plan.steps, "no step is lost or invented"
            ever_taken = execution.taken + ((execution.current,) if execution.current else ())
        if execution.plan and execution.state == "reverting":
            assert all(isinstance(step, Change) and not step.one_way for step in (*execution.taken, *execution.todo))
            assert (*execution.taken, *execution.todo) == revert_steps(ever_taken), (
                "the revert is the inverse of the plan"
            )
        assert (execution.state == "closed") is (execution.outcome is not None) is (execution.ended_at is not None)
        if before is not None:
            assert execution.steps_started >= before.steps_started
            assert execution.changed or not before.changed, "an effect is never forgotten"
            assert execution.cancelled or not before.cancelled
            assert before.state != "reverting" or execution.state in ("reverting", "stuck", "closed")
            assert before.state != "stuck" or execution.state in ("stuck", "closed")
        before = execution


@given(histories())
def test_events_from_the_journal_give_the_same_execution(events: list[Event]) -> None:
    again = [type(event).model_validate_json(event.model_dump_json()) for event in events]
    assert fold("x", again) == fold("x", events)


@given(histories())
def test_success_requires_every_step(events: list[Event]) -> None:
    for execution in prefixes(events):
        if execution.ending == "succeeded":
            assert execution.plan is not None
            assert execution.taken == execution.plan.steps
