"""The version to go back to, and the requirements that it would not meet."""

from __future__ import annotations

from typing import Any

import pytest

from responder.decisions.facts import Candidate
from responder.decisions.incidents import Incident
from responder.decisions.policy_set import PolicySet
from responder.decisions.target import choose_target, incompatibilities
from responder.journal import Database
from responder.journal.deployments import Status
from responder.services import registry
from responder.services.service import Service
from tests.responder.examples import NOW, ago, deployment, incident, policy_set, service

TARGET = Candidate(version="2.0", status="good")


async def deploy(
    journal: Database,
    name: str,
    version: str,
    hours_ago: float = 1,
    *,
    platform: str = "",
    environment: str = "production",
    status: Status | None = None,
    requires: dict[str, str] | None = None,
) -> None:
    deployed = deployment(
        id=f"{name}-{version}-{platform}-{environment}",
        service=name,
        version=version,
        at=ago(3600 * hours_ago),
        platform=platform,
        environment=environment,
        artifact=f"{name}@{version}",
    )
    await journal.transaction(registry.record, deployed, status)
    if requires:
        await journal.transaction(registry.require, deployed, requires, NOW)


async def unmet(journal: Database, by: PolicySet, case: Incident | None = None) -> tuple[str, ...]:
    return await journal.read(incompatibilities, case or incident(), by, by.services[0], TARGET)


def shop(*others: Service, **other: Any) -> PolicySet:
    return policy_set(services=(service(**other), *others))


async def test_the_target_has_its_artifact(journal: Database) -> None:
    await deploy(journal, "backend", "2.0", 2, status="good")
    running = deployment()
    await journal.transaction(registry.record, running)
    assert await journal.read(choose_target, incident(), running) == Candidate(
        version="2.0", artifact="backend@2.0", status="good"
    )


# --- what the target requires of others ---
async def test_a_required_service_without_a_known_version(journal: Database) -> None:
    expected = "backend 2.0 works with auth >=1, and the running version of auth is unknown"
    assert await unmet(journal, shop(requires={"auth": ">=1"})) == (expected,)


async def test_a_required_version_that_cannot_be_compared(journal: Database) -> None:
    await deploy(journal, "auth", "nightly")
    (found,) = await unmet(journal, shop(requires={"auth": ">=1"}))
    assert found.startswith("backend 2.0 works with auth >=1, and ")
    assert "nightly" in found


# --- what others require of the target ---
NEEDY = service("frontend", requires={"backend": ">=2.1"})


async def test_a_configured_requirement_of_a_service_that_runs(journal: Database) -> None:
    assert await unmet(journal, shop(NEEDY)) == (), "no version of it runs"
    await deploy(journal, "frontend", "3")
    assert await unmet(journal, shop(NEEDY)) == ("frontend 3 works with backend >=2.1, and backend would be 2.0",)


@pytest.mark.parametrize("environment", ["another", "staging"])
async def test_services_of_other_environments_require_nothing(journal: Database, environment: str) -> None:
    await deploy(journal, "frontend", "3", environment=environment)
    elsewhere = NEEDY.model_copy(update={"environment": environment})
    assert await unmet(journal, shop(elsewhere)) == ()


async def test_versions_on_platforms_are_named_with_their_platform(journal: Database) -> None:
    for hours, (version, platform) in enumerate([("3", "web"), ("4", "ios"), ("1", "android")]):
        await deploy(journal, "frontend", version, 9 - hours, platform=platform)
    assert sorted(await unmet(journal, shop(NEEDY))) == [
        "frontend 1 works with backend >=2.1, and backend would be 2.0",
        "frontend 3 on web works with backend >=2.1, and backend would be 2.0",
        "frontend 4 on ios works with backend >=2.1, and backend would be 2.0",
    ]


async def test_a_bad_version_on_a_platform_requires_nothing_and_a_bad_service_does(journal: Database) -> None:
    await deploy(journal, "frontend", "1", 9, platform="ios", requires={"backend": ">=2.1"})
    await deploy(journal, "frontend", "3", 8, platform="web")
    await deploy(journal, "kiosk", "1", 7, requires={"backend": ">=2.1"})
    for name in ("frontend", "kiosk"):
        await journal.transaction(registry.mark, name, "production", "1", "bad", "x", NOW)
    assert await unmet(journal, shop()) == ("kiosk 1 works with backend >=2.1, and backend would be 2.0",)


# --- several services together ---
async def test_services_of_the_same_rollback_count_with_their_targets(journal: Database) -> None:
    await deploy(journal, "frontend", "3", 9, status="good", requires={"backend": "<2.1"})
    await deploy(journal, "frontend", "4", 8, requires={"backend": ">=2.1"})
    expected = ("frontend 4 works with backend >=2.1, and backend would be 2.0",)
    by = shop(service("frontend"))
    assert await unmet(journal, by) == expected
    assert await unmet(journal, by, incident(together=("backend", "frontend"))) == ()
    unknown = incident(together=("backend", "frontend", "unknown"))
    assert await unmet(journal, by, unknown) == ()


async def test_the_version_that_is_rolled_back_on_a_platform_does_not_run_afterwards(journal: Database) -> None:
    await deploy(journal, "frontend", "3", 9, status="good")
    await deploy(journal, "frontend", "4", 8, platform="ios")
    await journal.transaction(registry.require, deployment(service="frontend", version="3"), {"backend": "<2.1"}, NOW)
    by = shop(service("frontend", requires={"backend": ">=2.1"}))
    assert await unmet(journal, by, incident(together=("backend", "frontend"))) == ()
