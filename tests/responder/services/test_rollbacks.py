"""The consequences of rollback events for versions, apps and the alerts that opened the rollback."""

from __future__ import annotations

from typing import Any

import pytest

from responder.journal import Database, executions, outbox
from responder.rollback.events import Accepted, Closed, Event, Planned, StepCompleted, StepFailed, StepStarted
from responder.rollback.execution import Execution, begin
from responder.rollback.plan import Mitigation
from responder.rollback.version_change import VersionChange
from responder.services import registry, rollbacks
from responder.services.rollbacks import Consequences, VersionMark, consequences
from tests.responder.examples import NOW, accepted, deployment, plan

ALSO = VersionChange(
    service="frontend", environment="production", strategy="immediate", from_version="8", to_version="7"
)


def after(*events: Event, opened_by: Accepted | None = None) -> Execution:
    execution = begin("r1", opened_by or accepted())
    for event in events:
        execution = execution.after(event)
    return execution


def closed(outcome: Any) -> Closed:
    return Closed(at=NOW, outcome=outcome, by="responder", reason="")


def failed(**fields: Any) -> StepFailed:
    return StepFailed(at=NOW, step=1, reason="still broken", freeze=True, **fields)


def in_verification() -> Execution:
    """All changes are made; the last gate decides."""
    return after(
        Planned(at=NOW, plan=plan()),
        StepStarted(at=NOW, step=0, title="the change"),
        StepCompleted(at=NOW, step=0, changed=True),
        StepStarted(at=NOW, step=1, title="the verification"),
    )


def test_a_success_marks_the_bad_version_and_restores_the_target() -> None:
    follows = consequences(after(closed("succeeded")), closed("succeeded"))
    why = "rolled back by r1: BackendDown on backend in production"
    assert follows.marks == (VersionMark("backend", "2.1", "bad", why),)
    [(restored, before)] = follows.restored
    assert (restored.id, restored.version, restored.at, restored.rolled_back_by) == ("r1-back", "2.0", NOW, "r1")
    assert (before, follows.mitigations, follows.holds_services) == ("2.1", (), True)


def test_each_service_of_a_rollback_is_restored_under_its_own_id() -> None:
    execution = after(closed("succeeded"), opened_by=accepted(also=(ALSO,)))
    follows = consequences(execution, closed("succeeded"))
    assert [(mark.service, mark.version) for mark in follows.marks] == [("backend", "2.1"), ("frontend", "8")]
    restored = [(deployment.id, deployment.version, before) for deployment, before in follows.restored]
    assert restored == [("r1-back", "2.0", "2.1"), ("r1-frontend-back", "7", "8")]


def test_only_a_mitigated_rollback_mitigates() -> None:
    mitigations = (
        Mitigation(platform="ios", min_version="3", remains="2.1 stays installed"),
        Mitigation(platform="web", service="frontend", remains="pages stay open"),
    )
    planned = Planned(at=NOW, plan=plan().model_copy(update={"mitigations": mitigations}))
    assert consequences(after(planned, closed("succeeded")), closed("succeeded")).mitigations == ()
    follows = consequences(after(planned, closed("mitigated")), closed("mitigated"))
    assert follows.mitigations == mitigations
    assert follows.mitigated("backend") == {("backend", "ios"), ("frontend", "web")}


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "reverted"])
def test_other_outcomes_mark_no_version(outcome: str) -> None:
    assert consequences(after(closed(outcome)), closed(outcome)) == Consequences(holds_services=True)


@pytest.mark.parametrize(
    ("event", "suspects"),
    [
        (failed(), ["2.1", "2.0"]),
        (failed(drift=True), []),
        (failed(inconclusive=True), []),
    ],
)
def test_both_versions_are_suspect_if_the_service_does_not_recover(event: StepFailed, suspects: list[str]) -> None:
    follows = consequences(in_verification().after(event), event)
    assert [mark.version for mark in follows.marks] == suspects
    assert {(mark.status, mark.reason) for mark in follows.marks} <= {("suspect", "backend did not recover after r1")}


def test_a_failed_change_marks_no_version() -> None:
    event = failed().model_copy(update={"step": 0})
    changing = after(Planned(at=NOW, plan=plan()), StepStarted(at=NOW, step=0, title="the change"))
    assert consequences(changing.after(event), event).marks == ()


def test_the_start_or_end_of_a_step_has_no_consequences() -> None:
    event = StepCompleted(at=NOW, step=1, changed=False)
    assert consequences(in_verification().after(event), event) == Consequences()


async def test_several_events_leave_one_notification(journal: Database) -> None:
    for version in ("2.0", "2.1"):
        await journal.transaction(registry.record, deployment(id=version, version=version))
    execution = await journal.transaction(rollbacks.accept, "r1", accepted())
    events = [
        Planned(at=NOW, plan=plan()),
        StepStarted(at=NOW, step=0, title="the change"),
        StepCompleted(at=NOW, step=0, changed=True),
        closed("succeeded"),
    ]
    execution = await journal.transaction(rollbacks.append, execution, events, None)
    stages: list[str] = []

    async def channels(tx: Any, news: outbox.News) -> list[str]:
        stages.append(news.stage)
        return []

    await journal.transaction(outbox.distribute, channels)
    assert stages == ["accepted", "succeeded"]
    assert await journal.read(executions.load, "r1") == execution
