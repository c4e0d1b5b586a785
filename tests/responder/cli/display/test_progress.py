"""The progress of a rollback is clear at a glance, forward and back, and its text cannot control the terminal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from responder.cli.display.progress import Progress, line
from responder.rollback.events import (
    Accepted,
    ApprovalRequested,
    Approved,
    Closed,
    Event,
    Planned,
    Resumed,
    RetriesExhausted,
    StepCompleted,
    StepFailed,
    StepStarted,
    StopRequested,
)
from responder.web.events import event_body, unfold
from tests.responder.examples import NOW, accepted, change, gate, plan

STEPS = (change("2.1", "2.0"), gate(name="ready"), gate(name="healthy", otherwise="freeze"))
PLANNED = Planned(at=NOW, plan=plan(*STEPS))


def at(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def started(step: int, seconds: float, title: str | None = None) -> StepStarted:
    return StepStarted(at=at(seconds), step=step, title=title or str(STEPS[step]))


def done(step: int, seconds: float, note: str = "") -> StepCompleted:
    return StepCompleted(at=at(seconds), step=step, changed=True, note=note)


def seen(*events: Event, first: Accepted | None = None) -> tuple[Progress, list[str]]:
    progress = Progress("r1")
    pairs = unfold("r1", [first or accepted(), *events])
    return progress, [progress.take(event_body(*pair)) for pair in pairs]


def drawn(progress: Progress, seconds: float = 10, width: int = 100) -> str:
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(progress.picture(at(seconds)))
    return "\n".join(text.rstrip() for text in capture.get().splitlines())


FORWARD = [PLANNED, started(0, 1), done(0, 2), started(1, 2)]


@pytest.mark.parametrize(
    ("events", "state", "steps"),
    [
        ([], "accepted", []),
        ([PLANNED], "running", ["todo", "todo", "todo"]),
        (FORWARD, "running", ["done", "running", "todo"]),
        ([*FORWARD, Resumed(at=at(3), worker="w"), started(2, 3)], "running", ["done", "running", "todo"]),
        ([*FORWARD, StepFailed(at=at(3), step=1, reason="x")], "reverting", ["done", "failed", "skipped"]),
        (
            [*FORWARD, StepFailed(at=at(3), step=1, reason="x"), started(2, 4, "back")],
            "reverting",
            ["done", "failed", "skipped", "running"],
        ),
        (
            [*FORWARD, StepFailed(at=at(3), step=1, reason="x"), started(2, 4, "back"), started(3, 5, "back")],
            "reverting",
            ["done", "failed", "skipped", "running"],
        ),
        (
            [*FORWARD, StopRequested(at=at(3), by="alice", reason="mine"), started(2, 4, "back"), done(2, 5)],
            "reverting",
            ["done", "stopped", "skipped", "done"],
        ),
        ([*FORWARD, StopRequested(at=at(3), by="a", reason="", hold=True)], "stuck", ["done", "stopped", "skipped"]),
        ([*FORWARD, RetriesExhausted(at=at(3), reason="x")], "stuck", ["done", "running", "skipped"]),
        ([PLANNED, ApprovalRequested(at=at(1), reason="ask", until=at(60))], "awaiting_approval", ["todo"] * 3),
        (
            [
                PLANNED,
                ApprovalRequested(at=at(1), reason="ask", until=at(60)),
                Approved(at=at(2), by="a", plan_hash="h"),
                PLANNED,
            ],
            "running",
            ["todo"] * 3,
        ),
    ],
)
def test_every_step_has_its_state(events: list[Event], state: str, steps: list[str]) -> None:
    progress, _ = seen(*events)
    assert (progress.state, [step.state for step in progress.steps]) == (state, steps)


def test_the_picture() -> None:
    progress, _ = seen(*FORWARD)
    progress.show_findings([{"holds": False, "reason": "up is 0, expected at least 1"}])
    assert drawn(progress).splitlines() == [
        "r1  backend in production  2.1 → 2.0  running  10.0s",
        "BackendDown on backend in production",
        "✓ current release of /srv/backend: 2.1 → 2.0 1.0s",
        "▸ ready, within 1m                           8.0s",
        "  up is 0, expected at least 1",
        "· healthy, within 1m",
        "━━━━━━━━━━━━━                            1 of 3",
    ]
    progress.take(event_body(*unfold("r1", [accepted(), *FORWARD, done(1, 5)])[-1]))
    progress.take(event_body(*unfold("r1", [accepted(), *FORWARD, done(1, 5), started(2, 5)])[-1]))
    assert "expected at least 1" not in drawn(progress), "the findings belong to the previous step"


def test_the_picture_names_the_required_action() -> None:
    held, _ = seen(PLANNED, ApprovalRequested(at=at(1), reason="policy requires approval", until=at(60)))
    assert f"responder approve r1 --plan {PLANNED.plan.hash}" in drawn(held)
    stuck, _ = seen(*FORWARD, RetriesExhausted(at=at(3), reason="resumed too often"))
    assert "responder close r1 --reason" in drawn(stuck)
    assert "resumed too often" in drawn(stuck)


def test_the_clock_stops_at_the_end() -> None:
    ended = [done(1, 3), started(2, 3), done(2, 75), Closed(at=at(75), outcome="succeeded", by="responder", reason="")]
    progress, _ = seen(*FORWARD, *ended)
    assert drawn(progress, 1000).splitlines()[0].endswith("succeeded  1m15s")
    assert drawn(progress, 1000).splitlines()[-1].endswith("3 of 3")


@pytest.mark.parametrize(("finished", "first", "last"), [(0, "step 0", "28 more steps"), (25, "17 earlier steps", "")])
def test_a_long_plan_is_shown_around_its_current_step(finished: int, first: str, last: str) -> None:
    steps = [gate(name=f"step {n}") for n in range(40)]
    events: list[Event] = [Planned(at=NOW, plan=plan(*steps))]
    for n in range(finished):
        events += [StepStarted(at=at(n), step=n, title="x"), done(n, n + 1)]
    progress, _ = seen(*events, StepStarted(at=at(finished), step=finished, title="x"))
    shown = drawn(progress)
    assert f"▸ step {finished}, " in shown
    assert first in shown
    assert last in shown
    assert len(shown.splitlines()) <= 18


def test_lines_for_a_log() -> None:
    events = [*FORWARD, StepFailed(at=at(3), step=1, reason="not ready"), started(2, 4, "2.0 → 2.1"), done(2, 5)]
    _, sentences = seen(*events, Closed(at=at(5), outcome="reverted", by="responder", reason="not ready"))
    assert sentences == [
        "backend in production  2.1 → 2.0: BackendDown on backend in production",
        f"plan {PLANNED.plan.hash} with 3 steps",
        "1/3 current release of /srv/backend: 2.1 → 2.0",
        "done in 1.0s",
        "2/3 ready, within 1m",
        "not ready",
        "revert: 2.0 → 2.1",
        "done in 1.0s",
        "reverted: not ready",
    ]


def test_a_label_cannot_control_the_terminal() -> None:
    evil = "\x1b[2J[red]down"
    progress, sentences = seen(PLANNED, started(0, 1, evil), first=accepted(reason=evil))
    progress.show_findings([{"holds": False, "reason": evil}])
    assert "\x1b" not in drawn(progress)
    assert "\x1b" not in line(event_body(*unfold("r1", [accepted(reason=evil)])[0]), sentences[0])
    assert "[red]down" in drawn(progress), "it contains no color codes"
