"""One gate: every check must hold for `hold_for` without a break, with every resource in place."""

from __future__ import annotations

from typing import Any

import pytest

from responder.errors import Drift, Inconclusive, StepFailed
from responder.rollback.change_step import StepResult
from responder.rollback.execution import Execution, begin
from responder.rollback.gate_step import wait_for_gate
from responder.rollback.plan import Gate
from responder.rollback.ports import Interrupted
from tests.responder.examples import accepted, change, gate
from tests.responder.rollback.fakes import FakeGateway, FakePorts

CHANGE = change()
RESOURCE = str(CHANGE.resource)
EXECUTION = begin("x", accepted()).model_copy(update={"state": "running", "taken": (CHANGE,)})
GATE = gate(hold_for=3.0, within=10.0, every=1.0)
AT_ONCE = gate(hold_for=0.0, within=10.0, every=1.0)


def fakes(looks: str, found: str = "2.0") -> FakePorts:
    return FakePorts(gateway=FakeGateway({RESOURCE: found}, looks=looks))


async def wait(
    fake: FakePorts, step: Gate = GATE, execution: Execution = EXECUTION, *, elapsed: float = 0.0
) -> StepResult:
    return await wait_for_gate(step, execution, fake.ports, elapsed=elapsed)


@pytest.mark.parametrize(
    ("step", "looks", "seconds"),
    [
        (AT_ONCE, "+", 0),
        (AT_ONCE, "--+", 2),
        (GATE, "+", 3),
        (GATE, "-+", 4),
        (gate(hold_for=3.0, within=10.0, every=2.0), "+", 4),  # the first check after `hold_for`
        # A failed check restarts `hold_for`, and so does one without an answer.
        (GATE, "++-+", 6),
        (GATE, "+++-+", 7),
        (GATE, "++?+", 6),
        (GATE, "+-+-+-+", 9),
    ],
)
async def test_how_long_the_checks_must_hold(step: Gate, looks: str, seconds: float) -> None:
    fake = fakes(looks)
    assert await wait(fake, step) == (False, "up")
    assert fake.time.seconds == seconds


@pytest.mark.parametrize(
    ("step", "looks", "reason", "inconclusive"),
    [
        (GATE, "-", "down", False),
        (GATE, "?", "no answer", True),
        (GATE, "?-", "down", False),
        (GATE, "-?", "no answer", True),
        (GATE, "++-" * 10, "down", False),
        (gate(hold_for=60.0, within=10.0), "+", "no check has failed, but they have not held long enough", False),
        (GATE, "--------+", "down", False),
        (
            gate(within=10.0, hold_for=3.0, every=1.0, checks=(*GATE.checks, *GATE.checks)),
            "?-" * 20,
            "no answer; down",
            False,
        ),
    ],
)
async def test_the_deadline(step: Gate, looks: str, reason: str, inconclusive: bool) -> None:
    fake = fakes(looks)
    with pytest.raises(StepFailed) as raised:
        await wait(fake, step)
    assert str(raised.value) == f'timed out waiting for "{step}": {reason}'
    assert isinstance(raised.value, Inconclusive) is inconclusive
    assert fake.time.seconds == 10.0


async def test_the_last_pause_ends_at_the_deadline() -> None:
    fake = fakes("-")
    with pytest.raises(StepFailed):
        await wait(fake, gate(within=2.5, every=1.0))
    assert fake.stop_signal.pauses == [1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("elapsed", "looks", "seconds", "holds"),
    [
        (4.0, "+", 3, True),  # `hold_for` restarts
        (4.0, "-", 6, False),  # but the deadline does not
        (9.0, "+", 3, True),  # checks that hold may complete `hold_for` past the deadline
        (9.5, "+", 3.5, True),  # a check at the deadline, and the rest of `hold_for` after it
        (99.0, "+", 3, True),
        (99.0, "-", 0, False),
        (99.0, "+-", 1, False),  # then the first failing check ends the wait
        (99.0, "++-", 2, False),
        (99.0, "?", 0, False),
        (-5.0, "-", 10, False),  # the clock of the earlier worker was ahead
    ],
)
async def test_a_resumed_gate(elapsed: float, looks: str, seconds: float, holds: bool) -> None:
    fake = fakes(looks)
    if holds:
        assert await wait(fake, elapsed=elapsed) == (False, "up")
    else:
        with pytest.raises(StepFailed, match="timed out"):
            await wait(fake, elapsed=elapsed)
    assert fake.time.seconds == seconds


@pytest.mark.parametrize(("looks", "seconds"), [("+", 3.0), ("-", 10.0)])
async def test_a_modified_resource_is_drift_whatever_the_checks_report(looks: str, seconds: float) -> None:
    fake = fakes(looks, found="9.9")
    with pytest.raises(Drift, match=r"was set to 2\.0 and is 9\.9 now"):
        await wait(fake)
    assert fake.time.seconds == seconds


async def test_resources_are_expected_where_later_changes_put_them() -> None:
    moved_on: dict[str, Any] = {"taken": (CHANGE, change("2.0", "1.9"))}
    assert (await wait(fakes("+", found="1.9"), execution=EXECUTION.model_copy(update=moved_on))).note == "up"


async def test_a_stop_interrupts_the_wait() -> None:
    fake = fakes("-")
    fake.stop_signal.when = lambda execution: fake.time.seconds >= 2.0
    with pytest.raises(Interrupted):
        await wait(fake)
    assert fake.time.seconds == 2.0
