"""The executor alone: every transition of an execution, with scripted dependencies and no waiting."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from responder.errors import Drift, Inconclusive, LeaseLost, StepFailed, Unavailable
from responder.rollback.events import Approved, Closed, EvidenceCollected, Planned, StepCompleted, StepStarted
from responder.rollback.events import StepFailed as StepFailedEvent
from responder.rollback.execution import Execution, begin, fold
from responder.rollback.executor import HANDLERS, execute
from responder.rollback.plan import Mitigation, Plan
from tests.responder.examples import NOW, accepted, change, gate, plan, release
from tests.responder.rollback.fakes import FakeGateway, FakePorts

FIRST, SECOND = change(), change("blue", "green", resource=release("/srv/pointer"))
A, B = str(FIRST.resource), str(SECOND.resource)
VERIFY = gate(otherwise="freeze", hold_for=2.0, within=10.0, every=1.0)
READY = gate(name="green is ready", hold_for=0.0, within=3.0)
PLAN = plan(FIRST, SECOND, VERIFY)
GATED = plan(FIRST, READY, SECOND, VERIFY)
EVIDENCE = EvidenceCollected(at=NOW, note="3 files")


def untouched(**script: Any) -> FakeGateway:
    """Both resources in their state before the rollback."""
    return FakeGateway({A: "2.1", B: "blue"}, **script)


def types(fakes: FakePorts) -> list[str]:
    return [event.type for event in fakes.record.events]


async def run(fakes: FakePorts, execution: Execution | None = None, **details: Any) -> Execution:
    ended = await execute(execution or begin("x", accepted(**details)), fakes.ports)
    assert ended.state not in HANDLERS
    return ended


# --- forward ---
async def test_a_plan_is_executed_in_order_and_verified() -> None:
    fakes = FakePorts(PLAN, gateway=untouched())
    ended = await run(fakes)
    assert (ended.state, ended.outcome) == ("closed", "succeeded")
    assert fakes.gateway.writes == [(A, "2.0"), (B, "green")]
    assert fakes.time.seconds == 2.0, "the verification held for two seconds"
    completed = [event for event in fakes.record.events if isinstance(event, StepCompleted)]
    assert [(event.step, event.changed, event.note) for event in completed] == [
        (0, True, ""),
        (1, True, ""),
        (2, False, "up"),
    ]


async def test_a_completed_step_and_the_next_start_are_one_commit() -> None:
    fakes = FakePorts(PLAN, gateway=untouched(), evidence=EVIDENCE)
    await run(fakes)
    assert [[event.type for event in commit] for commit in fakes.record.commits] == [
        ["planned", "evidence_collected", "step_started"],
        ["step_completed", "step_started"],
        ["step_completed", "step_started"],
        ["step_completed", "closed"],
    ]


async def test_recorded_events_add_up_to_the_returned_execution() -> None:
    fakes = FakePorts(PLAN, gateway=untouched(), evidence=EVIDENCE)
    assert await run(fakes) == fold("x", [accepted(), *fakes.record.events])


@pytest.mark.parametrize("state", ["awaiting_approval", "stuck", "closed"])
def test_states_in_which_the_executor_does_nothing(state: str) -> None:
    assert state not in HANDLERS


# --- planning ---
@pytest.mark.parametrize(
    ("failure", "state", "outcome", "freeze"),
    [
        (StepFailed("no release 2.0"), "closed", "failed", False),
        (Inconclusive("no answer"), "closed", "failed", False),
        (Drift("it is 9.9"), "stuck", None, True),
    ],
)
async def test_without_a_plan_nothing_is_changed(
    failure: Exception, state: str, outcome: str | None, freeze: bool
) -> None:
    fakes = FakePorts(failure, gateway=untouched(), evidence=EVIDENCE)
    ended = await run(fakes)
    assert (ended.state, ended.outcome, fakes.gateway.writes, fakes.kept) == (state, outcome, [], 0)
    failed = fakes.record.events[0]
    assert isinstance(failed, StepFailedEvent)
    assert (failed.step, failed.reason, failed.freeze) == (None, f"no plan could be made: {failure}", freeze)


async def test_a_bug_in_planning_is_not_a_failed_step() -> None:
    fakes = FakePorts(KeyError("bug"), gateway=untouched())
    with pytest.raises(KeyError):
        await run(fakes)
    assert fakes.record.events == []


# --- approval ---
@pytest.mark.parametrize(
    ("details", "planned", "reason"),
    [
        ({"approval_reason": "frozen by end-of-year"}, PLAN, "frozen by end-of-year"),
        ({}, plan(change(irreversible="12 rows are lost"), VERIFY), "12 rows are lost"),
        ({"approval_reason": "a freeze"}, plan(change(irreversible="12 rows are lost"), VERIFY), "a freeze"),
    ],
)
async def test_approval_is_requested_after_the_evidence_is_kept(
    details: dict[str, Any], planned: Plan, reason: str
) -> None:
    fakes = FakePorts(planned, gateway=untouched(), evidence=EVIDENCE)
    ended = await run(fakes, **details)
    assert (ended.state, ended.reason) == ("awaiting_approval", reason)
    assert ended.approve_before == NOW + timedelta(seconds=60)
    assert types(fakes) == ["planned", "evidence_collected", "approval_requested"]
    assert len(fakes.record.commits) == 1
    assert fakes.gateway.writes == []


async def approved(
    *plans: Plan | Exception, evidence: EvidenceCollected | None = EVIDENCE
) -> tuple[FakePorts, Execution]:
    """An execution whose first plan was approved; the others are planned afterwards."""
    fakes = FakePorts(*plans, gateway=untouched(), evidence=evidence)
    waiting = await run(fakes, approval_reason="a freeze")
    assert waiting.plan is not None
    fakes.record.commits.clear()
    return fakes, waiting.after(Approved(at=NOW, by="alice", plan_hash=waiting.plan.hash))


async def test_an_approved_plan_is_executed_if_it_is_unchanged() -> None:
    noted = PLAN.model_copy(update={"notes": ("13 rows by now",)})
    fakes, execution = await approved(PLAN, noted)
    ended = await run(fakes, execution)
    assert ended.outcome == "succeeded"
    assert types(fakes)[0] == "step_started"
    assert "planned" not in types(fakes), "the approved plan stays the recorded one"
    assert fakes.kept == 1, "the evidence was kept before the approval"


async def test_evidence_missing_before_the_approval_is_kept_after_it() -> None:
    fakes, execution = await approved(PLAN, evidence=None)
    fakes.evidence = EVIDENCE
    await run(fakes, execution)
    assert types(fakes)[:2] == ["evidence_collected", "step_started"]


OTHERS = [plan(change(to=version), VERIFY) for version in ("1.5", "1.6", "1.7", "1.8", "1.9")]


@pytest.mark.parametrize(
    "other", [min(OTHERS, key=lambda other: other.hash), max(OTHERS, key=lambda other: other.hash)]
)
async def test_an_approval_does_not_apply_to_another_plan(other: Plan) -> None:
    assert other.hash != PLAN.hash
    fakes, execution = await approved(PLAN, other)
    ended = await run(fakes, execution)
    assert (ended.state, ended.plan, ended.approved_by) == ("awaiting_approval", other, None)
    assert ended.reason == f"the plan has changed since alice approved it ({PLAN.hash})"
    assert types(fakes) == ["planned", "approval_requested"]
    assert fakes.gateway.writes == []


async def test_evidence_is_kept_before_another_plan_is_approved() -> None:
    fakes, execution = await approved(PLAN, OTHERS[0], evidence=None)
    fakes.evidence = EVIDENCE
    await run(fakes, execution)
    assert types(fakes) == ["planned", "evidence_collected", "approval_requested"]


@pytest.mark.parametrize(
    ("failure", "state"), [(StepFailed("2.0 is now bad"), "closed"), (Drift("2.0 is now bad"), "stuck")]
)
async def test_an_approved_plan_that_cannot_be_made_again_changes_nothing(failure: StepFailed, state: str) -> None:
    fakes, execution = await approved(PLAN, failure)
    ended = await run(fakes, execution)
    assert (ended.state, ended.reason) == (state, "no plan could be made: 2.0 is now bad")
    assert fakes.gateway.writes == []


async def test_an_approved_plan_is_not_planned_again_after_its_start() -> None:
    fakes, execution = await approved(PLAN)
    fakes.record.crash_at = 1
    with pytest.raises(LeaseLost):
        await run(fakes, execution)
    fakes.plans = [StepFailed("must not be called")]
    begun = fold("x", [accepted(), Planned(at=NOW, plan=PLAN)]).after(Approved(at=NOW, by="alice", plan_hash=PLAN.hash))
    for event in fakes.record.events:
        begun = begun.after(event)
    assert (await run(fakes, begun)).outcome == "succeeded"


async def test_a_plan_without_approval_is_not_planned_again() -> None:
    fakes = FakePorts(StepFailed("must not be called"), gateway=untouched())
    planned = fold("x", [accepted(), Planned(at=NOW, plan=PLAN)])
    assert (await run(fakes, planned)).outcome == "succeeded"


# --- closing ---
async def test_a_mitigation_states_what_remains() -> None:
    mitigations = (Mitigation(platform="android", remains="publish 3"), Mitigation(platform="ios", remains="submit 3"))
    fakes = FakePorts(PLAN.model_copy(update={"mitigations": mitigations}), gateway=untouched())
    ended = await run(fakes)
    assert (ended.outcome, ended.reason) == ("mitigated", "remaining work: publish 3; submit 3")


async def test_a_reverted_rollback_keeps_the_reason_of_its_failure() -> None:
    mitigations = (Mitigation(platform="android", remains="publish 3"),)
    fakes = FakePorts(GATED.model_copy(update={"mitigations": mitigations}), gateway=untouched(looks="-"))
    ended = await run(fakes)
    assert ended.outcome == "reverted"
    assert ended.reason == 'timed out waiting for "green is ready, within 3s": down'
    closed = fakes.record.events[-1]
    assert isinstance(closed, Closed)
    assert (closed.by, closed.reason) == ("responder", ended.reason)


# --- stops ---
def at_step(number: int | None, *, started: bool) -> Any:
    """Requests a stop at that step: before it starts, or while it waits."""

    def when(execution: Execution) -> bool:
        return len(execution.taken) == number and (execution.current is not None) is started

    return when


@pytest.mark.parametrize(
    ("number", "started", "outcome", "writes"),
    [
        (0, False, "cancelled", []),
        (0, True, "cancelled", [(A, "2.0"), (A, "2.1")]),
        (1, False, "cancelled", [(A, "2.0"), (A, "2.1")]),
        (1, True, "cancelled", [(A, "2.0"), (A, "2.1")]),
        (2, False, "cancelled", [(A, "2.0"), (A, "2.1")]),
        (2, True, "cancelled", [(A, "2.0"), (B, "green"), (B, "blue"), (A, "2.1")]),
        (3, False, "cancelled", [(A, "2.0"), (B, "green"), (B, "blue"), (A, "2.1")]),
        (3, True, "cancelled", [(A, "2.0"), (B, "green"), (B, "blue"), (A, "2.1")]),
        (4, False, "succeeded", [(A, "2.0"), (B, "green")]),
    ],
)
async def test_a_stop_reverts_completed_steps(
    number: int, started: bool, outcome: str, writes: list[tuple[str, str]]
) -> None:
    fakes = FakePorts(GATED, gateway=untouched(converging=[False, True] * 2, looks="-+++"))
    fakes.stop_signal.when = at_step(number, started=started)
    ended = await run(fakes)
    assert (ended.outcome, fakes.gateway.writes) == (outcome, writes)
    if outcome == "cancelled":
        assert ended.reason == "stopped by alice: enough"
        assert (ended.cancelled, ended.cancelled_by_guard) == (True, False)


@pytest.mark.parametrize(
    ("number", "started", "state"),
    [(0, False, "closed"), (0, True, "stuck"), (1, False, "stuck"), (3, True, "stuck")],
)
async def test_a_stop_that_holds_keeps_completed_steps(number: int, started: bool, state: str) -> None:
    fakes = FakePorts(GATED, gateway=untouched(converging=[False, True] * 2, looks="-+++"))
    fakes.stop_signal.when = at_step(number, started=started)
    ended = await run(fakes, on_stop="hold")
    assert ended.state == state
    assert (
        fakes.gateway.writes == [(A, "2.0"), (B, "green")][: min(number, 1) + (number > 1) + (number == 0 and started)]
    )


async def test_a_withdrawn_stop_resumes_the_step() -> None:
    fakes = FakePorts(PLAN, gateway=untouched(converging=[False, False]))
    first_wait = iter([True])
    fakes.stop_signal.when = lambda execution: execution.current is not None and next(first_wait, False)
    ended = await run(fakes)
    assert ended.outcome == "succeeded"
    assert types(fakes)[:3] == ["planned", "step_started", "step_started"]
    assert fakes.gateway.writes == [(A, "2.0"), (A, "2.0"), (B, "green")]


async def test_the_live_state_is_queried_only_before_a_change() -> None:
    fakes = FakePorts(GATED, gateway=untouched())
    await run(fakes)
    before_steps = [read for read in fakes.stop_signal.reads if read[1]]
    assert before_steps == [("running", True)] * 2


async def test_a_revert_cannot_be_stopped() -> None:
    fakes = FakePorts(GATED, gateway=untouched(looks="-", converging=[True, False, False]))
    fakes.stop_signal.when = lambda execution: execution.state == "reverting"
    ended = await run(fakes)
    assert ended.outcome == "reverted"
    assert {state for state, _ in fakes.stop_signal.reads} == {"running"}


# --- failures ---
@pytest.mark.parametrize(
    ("failure", "state", "flags"),
    [
        (StepFailed("its image cannot be pulled"), "closed", (False, False, False)),
        (Drift("changed by someone", by="argocd"), "stuck", (True, True, False)),
    ],
)
async def test_a_change_that_fails(failure: StepFailed, state: str, flags: tuple[bool, bool, bool]) -> None:
    fakes = FakePorts(PLAN, gateway=untouched(converging=[failure]))
    ended = await run(fakes)
    assert ended.state == state
    failed = next(event for event in fakes.record.events if isinstance(event, StepFailedEvent))
    assert (failed.freeze, failed.drift, failed.inconclusive) == flags
    assert (failed.step, failed.reason) == (0, str(failure))
    assert failed.reverted_by == (failure.by if isinstance(failure, Drift) else "")


@pytest.mark.parametrize(
    ("looks", "otherwise", "state", "inconclusive"),
    [("-", "revert", "closed", False), ("-", "freeze", "stuck", False), ("?", "freeze", "stuck", True)],
)
async def test_a_gate_that_fails(looks: str, otherwise: Any, state: str, inconclusive: bool) -> None:
    planned = plan(FIRST, READY.model_copy(update={"otherwise": otherwise}))
    fakes = FakePorts(planned, gateway=untouched(looks=looks))
    ended = await run(fakes)
    assert ended.state == state
    failed = next(event for event in fakes.record.events if isinstance(event, StepFailedEvent))
    assert (failed.freeze, failed.drift, failed.inconclusive) == (otherwise == "freeze", False, inconclusive)
    assert fakes.time.seconds == READY.within


async def test_a_gate_that_is_not_resumed_has_its_full_deadline() -> None:
    never = gate(name="never", hold_for=60.0, within=3.0, every=1.0)
    fakes = FakePorts(plan(never, FIRST), gateway=untouched())
    fakes.record.at_commit = lambda: fakes.time.advance(0.25)  # a commit takes time
    ended = await run(fakes)
    commits = len(fakes.record.commits)
    assert (ended.outcome, fakes.time.seconds) == ("failed", 3.0 + 0.25 * commits)


async def test_a_failed_revert_step_needs_a_human() -> None:
    gateway = untouched(looks="-")
    fakes = FakePorts(GATED, gateway=gateway)

    def modified() -> None:
        if fakes.time.seconds >= 2:
            gateway.values[A] = "9.9"

    gateway.at_look = modified
    ended = await run(fakes)
    assert (ended.state, ended.todo) == ("stuck", ())
    assert "changed by someone else" in ended.reason
    assert gateway.values == {A: "9.9", B: "blue"}, "the change of someone else is kept"


async def test_a_bug_is_not_a_failed_step() -> None:
    fakes = FakePorts(PLAN, gateway=untouched(converging=[Unavailable("a bug: it must be translated")]))
    with pytest.raises(Unavailable):
        await run(fakes)
    assert types(fakes) == ["planned", "step_started"]


# --- resumption ---
def resumed_at(seconds: float, of: Plan, gateway: FakeGateway) -> tuple[FakePorts, Execution]:
    """An execution whose first step was started and then interrupted by a crash, so many seconds ago."""
    fakes = FakePorts(of, gateway=gateway)
    fakes.time.seconds = seconds
    return fakes, fold("x", [accepted(), Planned(at=NOW, plan=of), StepStarted(at=NOW, step=0, title="")])


@pytest.mark.parametrize("resumed", [True, False])
async def test_a_value_found_by_a_resumed_step_counts_as_its_change(resumed: bool) -> None:
    gateway = FakeGateway({A: "2.0", B: "blue"})
    fakes, execution = resumed_at(5.0, plan(FIRST, VERIFY), gateway)
    ended = await run(fakes, execution if resumed else None)
    assert (ended.outcome, ended.changed, gateway.writes) == ("succeeded", resumed, [])


@pytest.mark.parametrize(("elapsed", "left"), [(1.0, 2.0), (3.0, 0.0), (99.0, 0.0)])
async def test_a_resumed_gate_has_the_rest_of_its_deadline(elapsed: float, left: float) -> None:
    fakes, execution = resumed_at(elapsed, plan(READY, FIRST), untouched(looks="-"))
    ended = await run(fakes, execution)
    assert (ended.outcome, fakes.time.seconds) == ("failed", elapsed + left)


@pytest.mark.parametrize("lost", range(8))
async def test_a_failed_commit_at_any_point_leads_to_the_same_end(lost: int) -> None:
    gateway = untouched()
    fakes = FakePorts(GATED, gateway=gateway, evidence=EVIDENCE)
    fakes.record.crash_at = lost
    try:
        await run(fakes)
    except LeaseLost:
        await run(fakes, fold("x", [accepted(), *fakes.record.events]))
    ended = fold("x", [accepted(), *fakes.record.events])
    assert (ended.outcome, gateway.values) == ("succeeded", {A: "2.0", B: "green"})
    assert gateway.writes == [(A, "2.0"), (B, "green")], "each change is written once"
    assert ended.changed
