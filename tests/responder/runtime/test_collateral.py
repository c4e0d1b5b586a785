"""Collateral silences on a real Alertmanager: created once, expired at the end, and no other silence is touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from responder.backends.alertmanager.client import Alertmanager, AlertmanagerSettings
from responder.backends.connections import Connections
from responder.decisions.limits import Watchdog
from responder.decisions.policy_set import PolicySet
from responder.errors import Unavailable
from responder.rollback.execution import Execution, begin
from responder.runtime.collateral import AUTHOR, execution_of, silences_for, update_silences
from tests import parts
from tests.responder.examples import NOW, accepted, policy, policy_set

RESTARTING = {"match": ['alertname="Restarting"', 'service=~"back.*"'], "for": "5m"}


def with_collateral(*collateral: dict[str, Any]) -> PolicySet:
    return policy_set(policy(silence_collateral=collateral or (RESTARTING,)))


def execution(name: str = "r1") -> Execution:
    return begin(name, accepted())


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[parts.Alertmanager]:
    parts.need("prometheus-alertmanager")
    async with parts.alertmanager(tmp_path, "route: {receiver: x}\nreceivers: [{name: x}]\n") as up:
        yield up


def connected(*urls: str) -> Connections:
    return Connections({Alertmanager: AlertmanagerSettings(urls=urls, timeout=3.0)}.get)


async def standing(real: parts.Alertmanager) -> dict[str, str]:
    found = await parts._call("GET", f"{real.url}/api/v2/silences")
    return {silence["comment"]: silence["status"]["state"] for silence in found}


async def test_it_lasts_as_long_as_the_rollback(real: parts.Alertmanager) -> None:
    by_hand = await real.silence({"alertname": "Other"}, author="bob", comment="mine")
    connections, now = connected(real.url), datetime.now(UTC)
    comment = "rollback r1: collateral 0 of backend in production"
    assert await update_silences([execution()], frozenset({"r1"}), with_collateral(), connections, now) == [
        f"silenced: {comment}"
    ]
    assert await update_silences([execution()], frozenset({"r1"}), with_collateral(), connections, now) == [], (
        "it already exists"
    )
    await real.alert({"alertname": "Restarting", "service": "backend"})
    await real.alert({"alertname": "Restarting", "service": "frontend"})

    async def muted() -> list[str]:
        found = await real.alerts(alertname="Restarting")
        return [a["labels"]["service"] for a in found if a["status"]["state"] == "suppressed"]

    assert await parts.until(muted) == ["backend"]
    # Another process, which did not create it, sees that the rollback is closed.
    other = connected(real.url)
    assert await update_silences([], frozenset(), with_collateral(), other, now) == [f"expired: {comment}"]
    await other.close()
    assert await standing(real) == {comment: "expired", "mine": "active"}
    assert await update_silences([execution()], frozenset({"r1"}), with_collateral(), connections, now) == [], (
        "never a second time"
    )
    await real.expire(by_hand)
    await connections.close()


async def test_every_reachable_peer_gets_it_and_the_next_round_continues(
    real: parts.Alertmanager, free_port: int
) -> None:
    connections = connected(real.url, f"http://127.0.0.1:{free_port}")
    with pytest.raises(Unavailable):
        await update_silences([execution()], frozenset({"r1"}), with_collateral(), connections, datetime.now(UTC))
    assert list((await standing(real)).values()) == ["active"]
    await connections.close()


@pytest.mark.parametrize(
    "match", [['service="backend"'], ['alertname=~"Backend.*"'], ['alertname="RollbackAutomationArmed"']]
)
def test_the_alerts_of_the_policy_are_never_silenced(match: list[str]) -> None:
    by = with_collateral({"match": match}).model_copy(update={"watchdog": Watchdog()})
    assert list(silences_for(execution(), by, NOW)) == []


def test_it_ends_by_itself() -> None:
    [silence] = silences_for(execution(), with_collateral(), NOW)
    assert (silence.ends_at - silence.starts_at).total_seconds() == 300
    posted = silence.posted(AUTHOR)
    assert posted["matchers"][1] == {"name": "service", "value": "back.*", "isRegex": True, "isEqual": True}
    assert posted["createdBy"] == "rollback-responder"


@pytest.mark.parametrize(
    ("comment", "name"), [("rollback r1: collateral 0 of x in y", "r1"), ("I rollback: all", ""), ("", "")]
)
def test_the_execution_id_in_a_comment(comment: str, name: str) -> None:
    assert execution_of(comment) == name
