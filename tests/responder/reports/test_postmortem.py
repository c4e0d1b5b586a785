"""The draft lists what is recorded, in order, and asks questions about the rest."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from responder.decisions.guards import GuardResult
from responder.reports.postmortem import make_postmortem
from responder.reports.postmortem_text import markdown
from responder.reports.record import ExecutionRecord, PostMortem, ReportedDecision, Version
from responder.rollback.events import (
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
from tests.responder.examples import NOW, accepted, ago, alert, change, deployment, gate, plan

STEPS = (change("2.1", "2.0"), gate(name="healthy", otherwise="freeze"))


def at(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


PLANNED = Planned(at=NOW, plan=plan(*STEPS))
MOVED = [
    PLANNED,
    StepStarted(at=at(1), step=0, title=str(STEPS[0])),
    StepCompleted(at=at(2), step=0, changed=True),
    StepStarted(at=at(2), step=1, title="healthy"),
]
SUCCEEDED = [
    *MOVED,
    StepCompleted(at=at(122), step=1, changed=False, note="up is 1"),
    Closed(at=at(122), outcome="succeeded", by="responder", reason=""),
]
TURNED_BACK = [
    *MOVED[:2],
    StepFailed(at=at(3), step=0, reason="disk full"),
    StepStarted(at=at(3), step=1, title="back"),
    StepCompleted(at=at(4), step=1, changed=True),
    Closed(at=at(4), outcome="reverted", by="responder", reason="disk full"),
]


def made(*events: Event, first: dict[str, Any] | None = None, **other: Any) -> PostMortem:
    fields = {"onset_at": ago(90), "received_at": ago(1), **(first or {})}
    return make_postmortem(ExecutionRecord(id="r1", events=(accepted(**fields), *events), **other))


def test_the_window_and_its_stages() -> None:
    postmortem = made(*SUCCEEDED, deployed=deployment(at=ago(300)))
    window = postmortem.window
    assert (window.deployed_at, window.onset_at, window.firing_at) == (ago(300), ago(90), ago(60))
    assert (window.accepted_at, window.acted_at, window.ended_at) == (NOW, at(1), at(122))
    assert [(stage.name, stage.seconds) for stage in postmortem.stages] == [
        ("onset → firing", 30),
        ("firing → received", 59),
        ("received → accepted", 1),
        ("accepted → acted", 1),
        ("acted → verified", 121),
    ]
    assert postmortem.impact_seconds == 212
    assert postmortem.summary.endswith("It succeeded and was verified within 2m2s.")


def test_unknown_times_are_null_and_become_questions() -> None:
    postmortem = made(first={"onset_at": None, "alerts": (), "forced": True, "requested_by": "alice"})
    assert (postmortem.window.deployed_at, postmortem.window.onset_at, postmortem.window.firing_at) == (
        None,
        None,
        None,
    )
    assert (postmortem.impact_seconds, postmortem.outcome, postmortem.guard_results) == (None, None, [])
    assert "Why did no policy act automatically, and should one?" in postmortem.questions
    assert postmortem.summary.endswith("It is in progress.")
    text = markdown(postmortem)
    assert "The duration is not recorded." in text
    assert "None: requested by a person." in text
    assert "| onset | unknown |" in text


def test_the_timeline_is_ordered_and_complete() -> None:
    refused = {"at": ago(70), "times": 4, "policy": "p", "result": "deny", "guard": "firing", "reason": "gone"}
    ours = {**refused, "at": NOW, "result": "allow", "guard": "mode", "execution": "r1"}
    postmortem = made(
        *SUCCEEDED,
        deployed=deployment(at=ago(300)),
        decisions=tuple(ReportedDecision(**{"execution": None, **row}) for row in (refused, ours)),
    )
    assert [moment.what for moment in postmortem.timeline] == [
        "deployed", "onset", "decided: deny", "firing", "received", "accepted", "planned",
        "step started", "step completed", "step started", "step completed", "closed",
    ]  # fmt: skip
    assert postmortem.timeline[2].detail == "policy p, by firing, 4 times: gone"


@pytest.mark.parametrize(
    ("events", "changes"),
    [
        ([PLANNED], []),
        (MOVED[:2], [("2.1", "2.0", False, None)]),
        (SUCCEEDED, [("2.1", "2.0", False, True)]),
        (TURNED_BACK, [("2.1", "2.0", False, None), ("2.0", "2.1", True, True)]),
        (
            [PLANNED, MOVED[1], StepCompleted(at=at(2), step=0, changed=False, note="already in place")],
            [("2.1", "2.0", False, False)],
        ),
    ],
)
def test_recorded_changes(events: list[Event], changes: list[Any]) -> None:
    assert [(c.before, c.after, c.reverting, c.effect) for c in made(*events).changes] == changes


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (TURNED_BACK, "It failed, and its changes were reverted within 4s: disk full"),
        ([StepFailed(at=at(1), reason="no plan")], "It is in progress."),
        (
            [StepFailed(at=at(1), reason="no"), Closed(at=at(1), outcome="failed", by="r", reason="no")],
            "It failed within 1s: no",
        ),
        ([PLANNED, ApprovalRequested(at=at(1), reason="ask", until=at(9))], "The plan awaits approval: ask"),
        (
            [*MOVED, RetriesExhausted(at=at(9), reason="resumed 6 times")],
            "It is stuck and needs a human: resumed 6 times",
        ),
        (
            [
                StopRequested(at=at(1), by="bob", reason="mine"),
                Closed(at=at(1), outcome="cancelled", by="r", reason="mine"),
            ],
            "It was cancelled within 1s: mine",
        ),
    ],
)
def test_the_summary_states_the_outcome(events: list[Event], says: str) -> None:
    assert made(*events).summary.endswith(says)


@pytest.mark.parametrize(
    ("events", "first", "question"),
    [
        (SUCCEEDED, {}, "What was wrong with 2.1"),
        (SUCCEEDED, {"onset_at": None}, "When did the trouble begin?"),
        (SUCCEEDED, {"onset_at": ago(360)}, "The alert fired 5m after the onset"),
        (TURNED_BACK, {}, "Why did the rollback fail (disk full)"),
        (
            [*MOVED, StepFailed(at=at(9), step=1, reason="sick", freeze=True)],
            {},
            "did not recover after all changes: what else had changed?",
        ),
        (
            [*MOVED, StepFailed(at=at(9), step=1, reason="no data", freeze=True, inconclusive=True)],
            {},
            "Why did the checks of backend not answer?",
        ),
        (
            [*MOVED, StepFailed(at=at(9), reason="moved", freeze=True, drift=True)],
            {},
            "Who changed the resource during the rollback",
        ),
        ([*MOVED, StopRequested(at=at(9), by="bob", reason="mine")], {}, "Why did bob stop it (mine)?"),
        ([*MOVED, Resumed(at=at(9), worker="w")], {}, "Why was the responder interrupted (1 time)?"),
        (
            [
                PLANNED,
                ApprovalRequested(at=at(1), reason="a", until=at(99)),
                Approved(at=at(61), by="al", plan_hash="h"),
            ],
            {},
            "It waited 1m for approval",
        ),
    ],
)
def test_questions_that_only_people_can_answer(events: list[Event], first: dict[str, Any], question: str) -> None:
    questions = made(*events, first=first).questions
    assert any(question in known for known in questions), questions
    assert "What did 2.1 do that a rollback does not undo, such as written data or sent messages?" in questions


def test_remaining_tasks() -> None:
    noted = Planned(at=NOW, plan=plan(*STEPS).model_copy(update={"notes": ("pin 2.0 in the manifest",)}))
    versions = (
        Version(version="2.1", status="bad", reason="rolled back by r1"),
        Version(version="2.0", status="suspect", reason="did not recover"),
        Version(version="1.0", status="bad", reason="long ago"),
    )
    left = made(noted, RetriesExhausted(at=at(1), reason="x"), versions=versions).left_to_do
    assert "responder close r1" in left[0]
    assert left[1].startswith("Fix or withdraw 2.1, which is bad (rolled back by r1)")
    assert left[2].startswith("Find out whether 2.0 works")
    assert left[3:] == ["pin 2.0 in the manifest"]
    assert made(*SUCCEEDED).left_to_do == []


def test_as_markdown_with_its_plot() -> None:
    guard_results = (GuardResult(guard="mode", result="allow", reason="auto mode"),)
    postmortem = made(*SUCCEEDED, deployed=deployment(at=ago(300)), guard_results=guard_results)
    text = markdown(postmortem, "plots/r 1.svg")
    assert text.startswith("# Post-mortem draft: backend in production, r1\n")
    assert "![The decisive series, with the times above](<plots/r 1.svg>)" in text
    assert "| mode | allow | auto mode |" in text
    assert "| acted → verified | 2m1s |" in text
    assert "| current release of /srv/backend | 2.1 | 2.0 | forward | changed |" in text
    assert "- [ ] What was wrong with 2.1" in text
    assert "- **BackendDown** since 2026-11-23 21:59:00 UTC: `environment=production, service=backend`" in text
    assert "![" not in markdown(postmortem)
    assert PostMortem.model_validate_json(postmortem.model_dump_json()) == postmortem, (
        "the command line reads it from JSON"
    )


def test_external_text_stays_text() -> None:
    evil = alert({"alertname": "a`b", "x": "`<script>`|\n# Owned"}, annotations={"summary": "[x](http://evil)"})
    text = markdown(made(first={"alerts": (evil,), "reason": "<b>|\n# Owned"}))
    assert "\n# Owned" not in text
    assert "[x](http" not in text
    assert "<b>" not in text


def test_many_alerts_are_counted() -> None:
    alerts = tuple(alert({"alertname": f"A{n}"}) for n in range(25))
    assert "- and 5 more" in markdown(made(first={"alerts": alerts}))
