"""A version becomes known good only after its soak time, if it is healthy and no alert requested a rollback."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from responder.backends.connections import Connections
from responder.decisions.journal_facts import WATCHDOG
from responder.decisions.limits import Watchdog
from responder.decisions.policy_set import PolicySet
from responder.decisions.recording import record_decision
from responder.journal import Database, decisions, deployments
from responder.journal.decisions import RecordedDecision
from responder.journal.deployments import Status
from responder.rollback.gateway import Gateway
from responder.runtime.promotion import promote
from responder.services import registry
from tests.responder.examples import NOW, ago, deployment, policy, policy_set, service
from tests.responder.outside import FakePrometheus

BACKEND = service(soak=600.0)
HEALTH = 'probe_success{service="backend"}'


@pytest.fixture(autouse=True)
def healthy(prometheus: FakePrometheus) -> None:
    prometheus.vectors[HEALTH] = [({}, "1")]


async def promoted(journal: Database, connections: Connections, by: PolicySet | None = None) -> list[str]:
    by = by or policy_set(services=(BACKEND,))
    return [d.version for d in await promote(journal, by, Gateway(connections), NOW)]


async def status(journal: Database, version: str = "2.1") -> Any:
    found = {d.version: d.status for d in await journal.read(deployments.running)}
    return found.get(version)


async def deploy(
    journal: Database, seconds_ago: float = 600, version: str = "2.1", known: Status | None = None
) -> None:
    deployed = deployment(id=f"d-{version}", version=version, at=ago(seconds_ago))
    await journal.transaction(registry.record, deployed, known)


async def judged(journal: Database, seconds_ago: float, result: str = "deny", **other: Any) -> None:
    fields = {
        "id": "d1",
        "incident": "i1",
        "at": ago(seconds_ago),
        "last_at": ago(seconds_ago),
        "policy": "p",
        "service": "backend",
        "environment": "production",
        "result": result,
        "guard": "mode",
        "reason": "x",
        "body": "{}",
        **other,
    }
    await journal.transaction(record_decision, RecordedDecision(**fields))


async def test_it_is_promoted_after_its_soak_time(journal: Database, connections: Connections) -> None:
    await deploy(journal)
    assert await promoted(journal, connections) == ["2.1"]
    assert await status(journal) == "good"
    assert await promoted(journal, connections) == [], "once is enough"


async def test_the_reason_is_recorded(journal: Database, connections: Connections) -> None:
    await deploy(journal)
    await promoted(journal, connections)

    async def version(tx: Any) -> Any:
        return await tx.first("version", service="backend", environment="production", version="2.1")

    assert (await journal.read(version))["reason"] == "healthy and without alerts for 10m"


async def test_not_before_its_soak_time(journal: Database, connections: Connections) -> None:
    await deploy(journal, 599.9)
    assert await promoted(journal, connections) == []
    assert await status(journal) == "candidate"


@pytest.mark.parametrize("known", ["suspect", "bad", "good"])
async def test_an_existing_mark_is_kept(journal: Database, connections: Connections, known: Status) -> None:
    await deploy(journal, known=known)
    assert await promoted(journal, connections) == []
    assert await status(journal) == known


async def test_only_the_running_version(journal: Database, connections: Connections) -> None:
    await deploy(journal, 6000, "2.0")
    await deploy(journal, 60, "2.1")
    assert await promoted(journal, connections) == []


@pytest.mark.parametrize("vector", [[], [({}, "0")], [({}, "NaN")], [({}, "1"), ({"pod": "b"}, "0")]])
async def test_not_while_unhealthy_or_unknown(
    journal: Database, connections: Connections, prometheus: FakePrometheus, vector: list[tuple[dict[str, str], str]]
) -> None:
    await deploy(journal)
    prometheus.vectors[HEALTH] = vector
    assert await promoted(journal, connections) == []
    prometheus.vectors[HEALTH] = [({}, "1")]
    assert await promoted(journal, connections) == ["2.1"]


async def test_not_without_traffic(journal: Database, connections: Connections, prometheus: FakePrometheus) -> None:
    await deploy(journal)
    used = policy_set(services=(service(soak=600.0, traffic_checks=({"promql": "requests", "above": 0.0},)),))
    assert await promoted(journal, connections, used) == []
    prometheus.vectors["requests"] = [({}, "5")]
    assert await promoted(journal, connections, used) == ["2.1"]


USED = {"services": (service(soak=600.0, traffic_checks=({"promql": "requests", "above": 0.0},)),)}


@pytest.mark.parametrize(
    ("silent_from", "silent_for", "earned"),
    [(3600, 3060, True), (3600, 3300, False), (400, 100, False), (120, 60, False), (9e9, 0, True)],
)
async def test_traffic_is_required_throughout_the_soak_time(
    journal: Database,
    connections: Connections,
    prometheus: FakePrometheus,
    silent_from: float,
    silent_for: float,
    earned: bool,
) -> None:
    await deploy(journal, 3600)
    prometheus.vectors["requests"] = [({}, "5")]
    prometheus.history["requests"] = lambda at: "0" if ago(silent_from) <= at < ago(silent_from - silent_for) else "5"
    assert (await promoted(journal, connections, policy_set(**USED)) == ["2.1"]) is earned
    if earned:
        found: Any = await journal.read(deployments.running)
        assert found[0].status == "good"


async def test_traffic_checks_without_history_count_only_now(
    journal: Database, connections: Connections, prometheus: FakePrometheus
) -> None:
    await deploy(journal)
    used = policy_set(services=(service(soak=600.0, traffic_checks=({"http": f"{prometheus.url}/traffic"},)),))
    assert await promoted(journal, connections, used) == ["2.1"]


async def test_a_report_during_the_checks_is_kept(
    journal: Database, prometheus: FakePrometheus, connections: Connections
) -> None:
    await deploy(journal)

    class Slow(Gateway):
        async def holds(self, check: Any) -> Any:
            await journal.transaction(registry.mark, "backend", "production", "2.1", "bad", "leaks", NOW, "alice")
            return await super().holds(check)

    assert await promote(journal, policy_set(services=(BACKEND,)), Slow(connections), NOW) == []
    assert await status(journal) == "bad"


async def test_not_if_prometheus_does_not_answer(
    journal: Database, connections: Connections, prometheus: FakePrometheus
) -> None:
    await deploy(journal)
    prometheus.status = 500
    assert await promoted(journal, connections) == []


@pytest.mark.parametrize(
    ("trouble", "earned"),
    [
        ({"seconds_ago": 300}, False),
        ({"seconds_ago": 300, "result": "allow"}, False),
        ({"seconds_ago": 300, "result": "require_approval"}, False),
        ({"seconds_ago": 300, "result": "ignore"}, True),
        ({"seconds_ago": 601}, True),
        ({"seconds_ago": 300, "service": "other"}, True),
        ({"seconds_ago": 300, "environment": "staging"}, True),
    ],
)
async def test_an_alert_since_its_deployment_prevents_it(
    journal: Database, connections: Connections, trouble: dict[str, Any], earned: bool
) -> None:
    await deploy(journal)
    await judged(journal, **trouble)
    assert (await promoted(journal, connections) == ["2.1"]) is earned


@pytest.mark.parametrize(("named", "earned"), [("both", False), ("other", True)])
async def test_an_alert_for_several_services_prevents_it_for_each(
    journal: Database, connections: Connections, named: str, earned: bool
) -> None:
    """The decision of a policy that rolls them back together is recorded with the first service only."""
    await deploy(journal)
    await judged(journal, 300, service="frontend", policy=named)
    both = policy(name="both", roll_back=("frontend", "backend"), together=True)
    services = (service("frontend"), BACKEND)
    assert (await promoted(journal, connections, policy_set(both, services=services)) == ["2.1"]) is earned


async def test_not_while_the_watchdog_is_missing(journal: Database, connections: Connections) -> None:
    await deploy(journal)
    watched = policy_set(services=(BACKEND,)).model_copy(update={"watchdog": Watchdog()})
    assert await promoted(journal, connections, watched) == []
    await journal.transaction(decisions.record_heartbeat, WATCHDOG, ago(10))
    assert await promoted(journal, connections, watched) == ["2.1"]


async def test_a_removed_service_is_ignored(journal: Database, connections: Connections) -> None:
    await deploy(journal)
    assert await promoted(journal, connections, policy_set(services=(service("other"),))) == []


async def test_an_unhealthy_service_does_not_delay_a_healthy_one(journal: Database, connections: Connections) -> None:
    await deploy(journal)
    deployed = deployment(id="o", service="other", version="7", at=NOW - timedelta(hours=1))
    await journal.transaction(registry.record, deployed, None)
    both = policy_set(services=(service("other", soak=600.0), BACKEND))
    assert await promoted(journal, connections, both) == ["2.1"]
