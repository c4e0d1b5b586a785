"""What stops a rollback: the stop file, the kill switch, a person, a silence, and guards with live data."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from responder.backends.alertmanager.alerts import fingerprint
from responder.backends.connections import Connections
from responder.decisions.limits import Watchdog
from responder.decisions.policy_set import PolicySet
from responder.journal import Database, decisions, executions
from responder.rollback.events import Planned, StepStarted
from responder.rollback.execution import Execution
from responder.runtime.stop_signal import ExecutionStopSignal
from responder.services import registry, rollbacks
from tests.responder.examples import LABELS, accepted, ago, alert, deployment, plan, policy, service
from tests.responder.outside import FakeAlertmanager, FakePrometheus

WATCHDOG = {"alertname": "RollbackAutomationArmed"}


class Setting:
    """A rollback of `backend` with ongoing trouble, and policies that a test may change."""

    def __init__(self, journal: Database, connections: Connections, stop_file: Path) -> None:
        self.journal, self.connections = journal, connections
        self.policy_set = PolicySet(services=(service(),), policies=(policy(),), stop_file=stop_file)
        self.stop_signal = ExecutionStopSignal(journal, lambda: self.policy_set, lambda: self.connections)

    def change(self, **fields: Any) -> None:
        self.policy_set = self.policy_set.model_copy(update=fields)

    async def accepted(self, **fields: Any) -> Execution:
        now = self.journal.now()
        fields = {"at": now, "received_at": now, "alerts": (alert(starts_at=ago(60, now)),), **fields}
        return await self.journal.transaction(rollbacks.accept, "r1", accepted(**fields))

    async def begun(self, **fields: Any) -> Execution:
        """The first change has started."""
        execution, now = await self.accepted(**fields), self.journal.now()
        events = [Planned(at=now, plan=plan()), StepStarted(at=now, step=0, title="the change")]
        return await self.journal.transaction(rollbacks.append, execution, events, None)

    async def stopped(self, execution: Execution, *, about_to_act: bool = True) -> str:
        """Who or what stops it, and why; empty if nothing does."""
        stop = await self.stop_signal.requested(execution, about_to_act=about_to_act)
        return f"{stop.by}: {stop.reason}" if stop else ""


@pytest.fixture
async def setting(
    journal: Database,
    connections: Connections,
    alertmanager: FakeAlertmanager,
    prometheus: FakePrometheus,
    tmp_path: Path,
) -> Setting:
    for version, seconds, status in (("2.0", 86400, "good"), ("2.1", 600, None)):
        reported = deployment(id=version, version=version, at=ago(seconds, datetime.now(UTC)))
        await journal.transaction(registry.record, reported, status)
    alertmanager.fires(LABELS, fingerprint(LABELS))
    alertmanager.fires(WATCHDOG, fingerprint(WATCHDOG))
    prometheus.sees(LABELS)
    return Setting(journal, connections, tmp_path / "stop")


def silence(alertmanager: FakeAlertmanager, labels: dict[str, str]) -> None:
    alertmanager.silences["s1"] = {
        "id": "s1", "createdBy": "bob", "comment": "deploying", "endsAt": "2099-01-01T00:00:00Z",
        "startsAt": "2026-01-01T00:00:00Z", "status": {"state": "active"}, "updatedAt": "2026-01-01T00:00:00Z",
        "matchers": [{"name": n, "value": v, "isRegex": False, "isEqual": True} for n, v in labels.items()],
    }  # fmt: skip
    for known in alertmanager.alerts:
        if known["labels"] == labels:
            known["status"].update(state="suppressed", silencedBy=["s1"])


def resolve(alertmanager: FakeAlertmanager, prometheus: FakePrometheus) -> None:
    alertmanager.alerts = [known for known in alertmanager.alerts if known["labels"] != LABELS]
    prometheus.recorded.clear()


async def test_nothing_stops_a_rollback_while_the_trouble_continues(setting: Setting) -> None:
    execution = await setting.accepted()
    assert await setting.stopped(execution) == ""
    assert await setting.stopped(execution, about_to_act=False) == ""


async def test_the_stop_file_stops_it_at_any_time(setting: Setting) -> None:
    execution = await setting.begun(forced=True, alerts=())
    stop_file = setting.policy_set.stop_file
    assert stop_file is not None
    stop_file.touch()
    for about_to_act in (True, False):
        stopped = await setting.stopped(execution, about_to_act=about_to_act)
        assert stopped.startswith("stop file: ")
        assert str(stop_file) in stopped
    stop_file.unlink()
    assert await setting.stopped(execution) == ""


async def test_the_kill_switch_stops_it_at_any_time(setting: Setting) -> None:
    execution, now = await setting.begun(forced=True, alerts=()), setting.journal.now()
    await setting.journal.transaction(decisions.set_kill_switch, "alice", "incident 7", now)
    for about_to_act in (True, False):
        stop = await setting.stop_signal.requested(execution, about_to_act=about_to_act)
        assert stop is not None
        assert (stop.by, "incident 7" in stop.reason, stop.guard) == ("alice", True, True)
    await setting.journal.transaction(decisions.release_kill_switch)
    assert await setting.stopped(execution) == ""


async def test_a_person_stops_only_the_named_rollback(setting: Setting) -> None:
    execution = await setting.begun()
    await setting.journal.transaction(executions.request_stop, "r1", "alice", "wrong service")
    stop = await setting.stop_signal.requested(execution, about_to_act=False)
    assert stop is not None
    assert (stop.by, stop.reason, stop.guard) == ("alice", "wrong service", False)


async def test_a_silence_stops_it_before_every_change_and_not_in_between(
    setting: Setting, alertmanager: FakeAlertmanager
) -> None:
    execution = await setting.begun()
    silence(alertmanager, LABELS)
    assert await setting.stopped(execution, about_to_act=False) == ""
    assert (await setting.stopped(execution)).startswith("alertmanager: silence s1 of bob: deploying")


async def test_a_silenced_watchdog_stops_only_automatic_rollbacks(
    setting: Setting, alertmanager: FakeAlertmanager
) -> None:
    setting.change(watchdog=Watchdog())
    execution = await setting.begun()
    silence(alertmanager, WATCHDOG)
    assert (await setting.stopped(execution)).startswith("watchdog: the watchdog alert is muted")
    requested = execution.model_copy(update={"accepted": execution.accepted.model_copy(update={"forced": True})})
    assert await setting.stopped(requested) == ""


@pytest.mark.parametrize("begun", [False, True])
async def test_a_resolved_alert_stops_it_only_before_the_first_change(
    setting: Setting, alertmanager: FakeAlertmanager, prometheus: FakePrometheus, begun: bool
) -> None:
    """Half a rollback is worse than either version."""
    execution = await (setting.begun() if begun else setting.accepted())
    resolve(alertmanager, prometheus)
    assert bool(await setting.stopped(execution)) is not begun


@pytest.mark.parametrize("begun", [False, True])
async def test_an_unavailable_alertmanager_stops_it_only_before_the_first_change(
    setting: Setting, alertmanager: FakeAlertmanager, begun: bool
) -> None:
    execution = await (setting.begun() if begun else setting.accepted())
    alertmanager.status = 500
    assert bool(await setting.stopped(execution)) is not begun


@pytest.mark.parametrize("begun", [False, True])
async def test_the_circuit_breaker_is_checked_again_before_the_first_change(
    setting: Setting, alertmanager: FakeAlertmanager, begun: bool
) -> None:
    names = ("frontend", "search", "cart")
    services = (service(), *(service(name) for name in names))
    roll_back = tuple(each.name for each in services)
    setting.change(services=services, policies=(policy(roll_back=("backend",)), *(
        policy(name=name, match=[f'alertname="Down_{name}"'], roll_back=(name,)) for name in names
    )))  # fmt: skip
    execution = await (setting.begun() if begun else setting.accepted())
    assert await setting.stopped(execution) == ""
    await asyncio.sleep(1.0)  # an answer is valid for a second
    assert len(roll_back) == 4
    for name in names:
        labels = {"alertname": f"Down_{name}", "service": name, "environment": "production"}
        alertmanager.fires(labels, fingerprint(labels))
    stopped = await setting.stopped(execution)
    assert stopped.startswith("circuit_breaker: 4 services are in trouble") is not begun
    assert bool(stopped) is not begun


async def test_an_answer_is_valid_for_a_second(setting: Setting, alertmanager: FakeAlertmanager) -> None:
    execution = await setting.accepted()
    assert await setting.stopped(execution) == ""
    requests = len(alertmanager.requests)
    assert await setting.stopped(execution) == ""
    assert len(alertmanager.requests) == requests
    setting.stop_signal._answered_at -= 1.0  # type: ignore[operator]
    assert await setting.stopped(execution) == ""
    assert len(alertmanager.requests) > requests


async def test_the_decision_counts_as_such_an_answer(setting: Setting, alertmanager: FakeAlertmanager) -> None:
    execution = await setting.accepted()
    setting.stop_signal.decided_now()
    alertmanager.status = 500
    assert await setting.stopped(execution) == ""
    setting.stop_signal._answered_at -= 1.0  # type: ignore[operator]
    assert await setting.stopped(execution) != ""


async def test_a_pause_ends_when_something_happens(setting: Setting) -> None:
    async with asyncio.timeout(60):
        waiting = asyncio.create_task(setting.stop_signal.pause(3600))
        await asyncio.sleep(0)
        setting.stop_signal.wake.set()
        await waiting
        await setting.stop_signal.pause(0.01)
