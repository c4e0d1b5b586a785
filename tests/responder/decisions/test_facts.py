"""The guards get every fact of the journal and Alertmanager, and `unknown` for what cannot be determined."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from responder.backends.connections import Connections
from responder.decisions.facts import Facts
from responder.decisions.incidents import Incident
from responder.decisions.journal_facts import gather
from responder.decisions.policy_set import PolicySet
from responder.journal import Database, Transaction, decisions
from responder.journal.deployments import Status
from responder.operations.explain import explain
from responder.rollback.events import Closed, Event, Outcome, Planned, StepCompleted, StepStarted, StopRequested
from responder.services import registry, rollbacks
from tests.responder.examples import (
    LABELS,
    NOW,
    accepted,
    ago,
    alert,
    by_hand,
    deployment,
    incident,
    plan,
    policy,
    policy_set,
    service,
)


async def known(journal: Database, case: Incident | None = None, by: PolicySet | None = None) -> Facts:
    return await journal.read(gather, case or incident(), by or policy_set(), NOW)


async def deploy(journal: Database, version: str, seconds_ago: float, status: Status | None = None) -> None:
    deployed = deployment(id=f"d-{version}-{seconds_ago}", version=version, at=ago(seconds_ago))
    await journal.transaction(registry.record, deployed, status)


async def rolled_back(journal: Database, execution_id: str, outcome: Outcome, *, changed: bool = True) -> None:
    execution = await journal.transaction(rollbacks.accept, execution_id, accepted())
    events: list[Event] = [
        Planned(at=NOW, plan=plan()),
        StepStarted(at=NOW, step=0, title="x"),
        StepCompleted(at=NOW, step=0, changed=changed),
        *([] if outcome == "succeeded" else [StopRequested(at=NOW, by="a", reason="b")]),
        Closed(at=NOW + timedelta(seconds=5), outcome=outcome, by="responder", reason="over"),
    ]
    await journal.transaction(rollbacks.append, execution, events, None)


# --- facts from the journal ---
async def test_a_new_service_has_no_facts(journal: Database) -> None:
    assert await known(journal) == Facts(service=service())


async def test_an_unknown_service_has_a_reason(journal: Database) -> None:
    found = await known(journal, incident(service="nobody"))
    assert (found.service, found.service_problem) == (None, "no service 'nobody' is configured")


async def test_the_newest_version_runs_and_the_last_good_one_is_the_target(journal: Database) -> None:
    await deploy(journal, "1.8", 4000, "good")
    await deploy(journal, "1.9", 3000, "good")
    await deploy(journal, "2.0", 2000, "bad")
    await deploy(journal, "2.1", 600)
    found = await known(journal)
    assert found.running is not None
    assert (found.running.version, found.running.status) == ("2.1", "candidate")
    assert found.target is not None
    assert (found.target.version, found.target.status) == ("1.9", "good")


async def test_the_running_good_version_is_not_its_own_target(journal: Database) -> None:
    await deploy(journal, "2.1", 600, "good")
    assert (await known(journal)).target is None


async def test_a_named_version_is_found_with_its_status(journal: Database) -> None:
    await deploy(journal, "1.8", 4000, "suspect")
    await deploy(journal, "2.1", 600)
    found = await known(journal, by_hand(version="1.8"))
    assert found.target is not None
    assert (found.target.version, found.target.status) == ("1.8", "suspect")
    assert (await known(journal, by_hand(version="0.1"))).target is None


async def test_another_environment_is_another_service(journal: Database) -> None:
    await deploy(journal, "2.1", 600)
    both = policy_set(services=(service(), service(environment="staging")))
    assert (await known(journal, incident(environment="staging"), both)).running is None
    assert (await known(journal, incident(), both)).running is not None


@pytest.mark.parametrize(
    ("outcome", "changed", "cools"),
    [("succeeded", True, True), ("reverted", True, True), ("failed", False, False)],
)
async def test_past_rollbacks(journal: Database, outcome: Outcome, changed: bool, cools: bool) -> None:
    await deploy(journal, "2.0", 4000, "good")
    await deploy(journal, "2.1", 600)
    await rolled_back(journal, "r1", outcome, changed=changed)
    found = await known(journal)
    assert found.latest is not None
    assert (found.latest.id, found.latest.state, found.latest.outcome) == ("r1", "closed", outcome)
    assert (found.last_of_policy is not None) is cools
    if found.last_of_policy:
        assert found.last_of_policy.ended_at == NOW + timedelta(seconds=5)
    other = await known(journal, incident(policy=policy(name="another")))
    assert other.last_of_policy is None, "each policy has its own cooldown"


async def test_a_rolled_back_version_that_is_deployed_again(journal: Database) -> None:
    await deploy(journal, "2.0", 4000, "good")
    await deploy(journal, "2.1", 600)
    await rolled_back(journal, "r1", "succeeded")
    assert (await known(journal)).tried_before is None, "2.0 runs now"
    await deploy(journal, "2.1", -60)
    before = (await known(journal)).tried_before
    assert before is not None
    assert (before.id, before.stop_requested_by) == ("r1", None)


async def test_an_alert_that_opened_an_earlier_rollback(journal: Database) -> None:
    await rolled_back(journal, "r1", "failed", changed=False)
    assert (await known(journal)).opened == "r1"
    again = incident(alerts=(alert(starts_at=ago(5)),))
    assert (await known(journal, again)).opened is None, "it resolved and fired again: another incident"
    joined = incident(alerts=(alert({**LABELS, "pod": "p"}, starts_at=ago(5)), alert()))
    assert (await known(journal, joined)).opened == "r1"


async def test_who_stopped_all_automation(journal: Database, tmp_path: Path) -> None:
    await journal.transaction(decisions.set_kill_switch, "bob", "storm", NOW)
    assert (await known(journal)).stopped == "stopped by bob: storm"
    (tmp_path / "stop").touch()
    assert "the stop file" in (await known(journal, by=policy_set(stop_file=tmp_path / "stop"))).stopped
    assert await journal.transaction(decisions.release_kill_switch)
    assert (await known(journal)).stopped == ""


def test_the_examples_are_in_one_time_zone() -> None:
    assert NOW.tzinfo is UTC
    assert datetime.now(UTC) > NOW


# --- pairs of versions
async def report_requirement(journal: Database, version: str, hours_ago: float, needs: str, platform: str) -> None:
    deployed = deployment(
        id=f"{version}-{platform}", service="frontend", version=version, at=ago(3600 * hours_ago), platform=platform
    )

    async def tell(tx: Transaction) -> None:
        await registry.record(tx, deployed)
        await registry.require(tx, deployed, {"backend": needs} if needs else {}, NOW)

    await journal.transaction(tell)


@pytest.mark.parametrize("configured", [False, True])
async def test_an_outdated_app_has_its_own_requirements(journal: Database, configured: bool) -> None:
    """The site is at 2.2, which works with everything; the app in the store is still at 2.0, which does not."""
    needs = "" if configured else ">=2.1"
    await report_requirement(journal, "2.0", 9, needs, "ios")
    await report_requirement(journal, "2.2", 8, ">=1", "web")
    await deploy(journal, "2.0", 3600, "good")
    await deploy(journal, "2.1", 600)
    frontend = service("frontend", requires={"backend": ">=2.1"} if configured else {})
    by = policy_set(services=(service(), frontend))
    incompatible = "frontend 2.0 on ios works with backend >=2.1, and backend would be 2.0"
    assert (await known(journal, by=by)).incompatible == (incompatible,)
    # A bad version is blocked, so its remaining users do not count.
    await journal.transaction(registry.mark, "frontend", "production", "2.0", "bad", "x", NOW)
    assert (await known(journal, by=by)).incompatible == ()


@pytest.mark.parametrize(
    ("ranges", "incompatible"),
    [
        (
            {},
            (
                "backend 2.0 works with auth >=1, and auth would be 0.9",
                "backend 2.0 works with search >=3, and search would be 2",
            ),
        ),
        ({"search": ">=2"}, ("backend 2.0 works with auth >=1, and auth would be 0.9",)),
        ({"search": ">=2", "auth": "<1"}, ()),
        (
            {"search": ">=2", "kiosk": ">=1"},
            (
                "backend 2.0 works with auth >=1, and auth would be 0.9",
                "backend 2.0 works with kiosk >=1, and kiosk would be 0.1",
            ),
        ),
    ],
)
async def test_a_reported_requirement_replaces_the_configured_one_for_that_service(
    journal: Database, ranges: dict[str, str], incompatible: tuple[str, ...]
) -> None:
    """The configured requirements still apply to all other services."""
    for name, version in (("auth", "0.9"), ("search", "2"), ("kiosk", "0.1")):
        await journal.transaction(registry.record, deployment(id=name, service=name, version=version))
    await deploy(journal, "2.0", 3600, "good")
    await deploy(journal, "2.1", 600)
    await journal.transaction(registry.require, deployment(version="2.0"), ranges, NOW)
    by = policy_set(services=(service(requires={"search": ">=3", "auth": ">=1"}),))
    assert (await known(journal, by=by)).incompatible == incompatible


@pytest.mark.parametrize(
    ("reported_service", "version", "needs"),
    [("frontend", "2.0", {"backend": "<2.0"}), ("backend", "2.0", {"frontend": ">=2.1"})],
)
@pytest.mark.parametrize("forced_by", ["a person", "an alert"])
async def test_compatibility_is_checked_for_the_named_version(
    journal: Database,
    connections: Connections,
    forced_by: str,
    reported_service: str,
    version: str,
    needs: dict[str, str],
) -> None:
    """Not against 2.0, the automatic target of the backend."""
    for name, good in (("backend", ("1.9", "2.0")), ("frontend", ("2.0",))):
        for hours, released in enumerate((*good, "2.1")):
            deployed = deployment(id=f"{name}-{released}", service=name, version=released, at=ago(3600 * (9 - hours)))
            await journal.transaction(registry.record, deployed, "candidate" if released == "2.1" else "good")
    deployed = deployment(service=reported_service, version=version)
    await journal.transaction(registry.require, deployed, needs, NOW)
    both = policy(roll_back=("backend", "frontend"), together=True, force=True)
    by = policy_set(both, services=(service(), service("frontend")))
    request = {"policy": both, "version": "1.9", "together": ("backend", "frontend")}
    case = by_hand(**request) if forced_by == "a person" else incident(**request, forced=True)
    usual = case.model_copy(update={"version": None})
    how: Any = {"policy_set": by, "journal": journal, "connections": connections, "clock": lambda: NOW}
    [named, other] = [(d.facts, *d.also) for case in (case, usual) for d in await explain([case], **how)]
    assert [s.target.version for s in named if s.target] == ["1.9", "2.0"]
    assert [s.incompatible for s in named] == [(), ()]
    assert all(s.incompatible for s in other), "otherwise the table above tests nothing"
