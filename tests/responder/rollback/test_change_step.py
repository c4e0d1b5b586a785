"""One change: written once, awaited until it converges, and never overwriting the change of someone else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from responder.errors import Drift, Inconclusive, StepFailed
from responder.rollback.change_step import StepResult, apply_change
from responder.rollback.execution import Execution, begin
from responder.rollback.plan import Change
from responder.rollback.ports import Interrupted
from tests.responder.examples import accepted, change, gate
from tests.responder.rollback.fakes import FakeGateway, FakePorts

CHANGE = change(every=1.0)
RESOURCE = str(CHANGE.resource)
WATCHED = CHANGE.model_copy(update={"meanwhile": gate().checks})
BACK = CHANGE.inverse()
EXECUTION = begin("x", accepted()).model_copy(update={"state": "running"})
REVERTING = EXECUTION.model_copy(update={"state": "reverting"})


def fakes(found: str = "2.1", **script: Any) -> FakePorts:
    return FakePorts(gateway=FakeGateway({RESOURCE: found}, **script))


async def apply(
    fake: FakePorts, step: Change = CHANGE, execution: Execution = EXECUTION, *, resumed: bool = False
) -> StepResult:
    return await apply_change(step, execution, fake.ports, resumed=resumed)


async def test_it_is_written_and_converges() -> None:
    fake = fakes()
    assert await apply(fake) == (True, "")
    assert fake.gateway.writes == [(RESOURCE, "2.0")]
    assert fake.stop_signal.pauses == []


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_value_already_in_place_is_not_written(resumed: bool) -> None:
    fake = fakes("2.0")
    assert await apply(fake, resumed=resumed) == (resumed, "already in place")
    assert fake.gateway.writes == []


@pytest.mark.parametrize("look", [False, StepFailed("its pods crash")])
async def test_a_value_in_place_that_has_not_converged_is_written_again(look: Any) -> None:
    fake = fakes("2.0", converging=[look])
    assert await apply(fake) == (True, "")
    assert fake.gateway.writes == [(RESOURCE, "2.0")]


async def test_drift_of_a_value_already_in_place() -> None:
    fake = fakes("2.0", converging=[Drift("changed by someone else")])
    with pytest.raises(Drift, match="changed by someone else"):
        await apply(fake)
    assert fake.gateway.writes == []


@pytest.mark.parametrize(("author", "named"), [("", "someone else"), ("kubectl-edit", "kubectl-edit")])
async def test_an_unexpected_value_is_left_unchanged(author: str, named: str) -> None:
    fake = fakes("9.9")
    fake.gateway.author = author
    with pytest.raises(Drift) as raised:
        await apply(fake)
    assert str(raised.value) == (
        f"the {RESOURCE} is 9.9, neither 2.1 nor 2.0: changed by {named}; the rollback makes no further changes"
    )
    assert (raised.value.by, fake.gateway.writes) == (author, [])


async def test_drift_during_convergence() -> None:
    fake = fakes(converging=[False])
    fake.gateway.at_look = lambda: fake.gateway.values.update({RESOURCE: "9.9"})
    fake.gateway.author = "kubectl-edit"
    with pytest.raises(Drift) as raised:
        await apply(fake)
    assert str(raised.value) == f"the {RESOURCE} was set to 2.0 and is 9.9 now: changed by kubectl-edit"
    assert (raised.value.by, fake.stop_signal.pauses) == ("kubectl-edit", []), "it is detected at the first check"


async def test_pauses_grow_with_the_time_so_far_up_to_that_of_the_change() -> None:
    fake = fakes(converging=[False] * 100)
    await apply(fake)
    pauses = fake.stop_signal.pauses
    assert all(pause <= max(0.05, sum(pauses[:n]) * 0.06) for n, pause in enumerate(pauses)), "little time is lost"
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0
    assert fake.gateway.assisted == 100, "it is assisted at each check until it has converged"


async def test_a_short_pause_of_the_change_is_never_exceeded() -> None:
    fake = fakes(converging=[False] * 3)
    await apply(fake, change(every=0.01))
    assert fake.stop_signal.pauses == [0.01] * 3


async def test_a_change_that_does_not_converge_fails_at_the_deadline() -> None:
    fake = fakes(converging=[False] * 1000)
    limit = CHANGE.resource.converge_timeout
    with pytest.raises(StepFailed) as raised:
        await apply(fake)
    assert str(raised.value) == f"the {RESOURCE} was set to 2.0 and has not converged within {limit:g}s"
    assert not isinstance(raised.value, Inconclusive)
    assert limit < fake.time.seconds <= limit + 1.0


async def test_the_last_check_is_after_the_deadline() -> None:
    fake = fakes(converging=[False] * 10_000)
    with pytest.raises(StepFailed):
        await apply(fake, change(every=2.0**-6))
    assert fake.time.seconds == CHANGE.resource.converge_timeout + 2.0**-6


async def test_a_failing_check_ends_the_wait_at_once() -> None:
    fake = fakes(looks="+-", converging=[False] * 9)
    with pytest.raises(StepFailed, match=f"while the {RESOURCE} converged: down"):
        await apply(fake, WATCHED)
    assert len(fake.stop_signal.pauses) == 1


async def test_a_failing_check_outweighs_convergence() -> None:
    with pytest.raises(StepFailed, match="converged: down"):
        await apply(fakes(looks="-"), WATCHED)


async def test_a_check_without_an_answer_only_delays() -> None:
    fake = fakes(looks="??+")
    assert await apply(fake, WATCHED) == (True, "")
    assert len(fake.stop_signal.pauses) == 2


async def test_a_check_that_never_answers_is_named_at_the_deadline() -> None:
    with pytest.raises(StepFailed, match=r"has not converged within \d+s: no answer$"):
        await apply(fakes(looks="?"), WATCHED)


async def test_only_the_last_check_is_named_at_the_deadline() -> None:
    with pytest.raises(StepFailed, match=r"has not converged within \d+s$"):
        await apply(fakes(looks="?+", converging=[False] * 1000), WATCHED)


@pytest.mark.parametrize(
    ("script", "note"),
    [
        ({"converging": [StepFailed("its pods crash")]}, "reverted; its pods crash"),
        ({"converging": [False] * 1000}, r"the .* was set to 2\.1 and has not converged within \d+s"),
    ],
)
async def test_a_revert_continues_although_the_earlier_state_is_unhealthy(script: dict[str, Any], note: str) -> None:
    result = await apply(fakes("2.0", **script), BACK, REVERTING)
    assert result.changed
    assert re.fullmatch(note, result.note)


async def test_a_revert_stops_at_drift() -> None:
    with pytest.raises(Drift):
        await apply(fakes("2.0", converging=[Drift("changed by someone")]), BACK, REVERTING)


@pytest.mark.parametrize(("execution", "interrupted"), [(EXECUTION, True), (REVERTING, False)])
async def test_only_forward_steps_are_interrupted(execution: Execution, interrupted: bool) -> None:
    fake = fakes(converging=[False])
    fake.stop_signal.when = lambda execution: True
    if not interrupted:
        assert (await apply(fake, execution=execution)).changed
        return
    with pytest.raises(Interrupted):
        await apply(fake, execution=execution)
    assert fake.stop_signal.reads == [("running", False)]
