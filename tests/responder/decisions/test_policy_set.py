"""Dependencies, connected services and contradictions of one configuration, and what facts say about the versions."""

from __future__ import annotations

from typing import Any

import pytest

from responder.decisions.facts import Candidate, Facts, Replaced
from responder.decisions.freeze_windows import Freeze
from responder.decisions.limits import Watchdog
from responder.decisions.policy_set import PolicySet, freeze_contradictions, policy_contradictions
from responder.rollback.version_change import VersionChange
from responder.services.service import Service
from tests.responder.examples import NOW, alert, deployment, incident, make_facts, policy, policy_set, service

WEB = service("web", depends_on=("api", "auth"))
API = service("api", depends_on=("db",))
AUTH = service("auth", depends_on=("db", "elsewhere"))
DB = service("db")
STAGING_DB = service("db", environment="staging")
SHOP = policy_set(services=(STAGING_DB, WEB, API, AUTH, DB, service("mail")))


def test_the_labels_that_matter_are_those_that_policies_watchdog_and_services_use() -> None:
    by = policy_set(policy(match=['a="1"', 'b=~"2"'], roll_back={"label": "app"}), policy(name="q", match=['c!="3"']))
    assert by.used_labels == ("a", "app", "b", "c", "environment")
    assert by.model_copy(update={"watchdog": Watchdog()}).used_labels == (
        "a",
        "alertname",
        "app",
        "b",
        "c",
        "environment",
    )


def test_a_target_concerns_who_requires_it_and_who_is_rolled_back_with_it() -> None:
    requiring = service("web", requires={"api": ">=1"})
    elsewhere = service("web", environment="staging", requires={"api": ">=1"})
    by = policy_set(services=(elsewhere, requiring, API, AUTH, DB))
    assert list(by.concerned(API, ["api", "db", "unknown"])) == [DB, requiring]
    assert list(by.concerned(DB, [])) == []


@pytest.mark.parametrize(
    ("of", "needed"), [(WEB, [API, DB, AUTH]), (API, [DB]), (AUTH, [DB]), (DB, []), (STAGING_DB, [])]
)
def test_dependencies_are_direct_and_indirect_and_in_the_same_environment(of: Service, needed: list[Service]) -> None:
    assert SHOP.needs(of) == needed


@pytest.mark.parametrize(
    ("fields", "connected"),
    [
        ({"service": "db"}, {"db", "api", "auth", "web"}),
        ({"service": "web"}, {"web"}),
        ({"service": "db", "environment": "staging"}, {"db"}),
        ({"service": "unknown"}, {"unknown"}),
        ({"service": "mail", "together": ("mail", "zone")}, {"mail", "zone"}),
        ({"service": "mail", "policy": policy(roll_back=("mail", "zone"))}, {"mail", "zone"}),
    ],
)
def test_services_with_the_same_cause_are_connected(fields: dict[str, Any], connected: set[str]) -> None:
    by_label = policy(roll_back={"label": "service"})
    assert SHOP.connected_services(incident(**{"policy": by_label, **fields})) == connected


def test_the_watchdog_is_recognized_by_its_matchers() -> None:
    armed = alert({"alertname": "RollbackAutomationArmed", "cluster": "a"})
    watching = PolicySet(watchdog=Watchdog())
    assert watching.is_watchdog(armed.labels)
    assert not watching.is_watchdog(alert().labels)
    assert not PolicySet().is_watchdog(armed.labels)


# --- contradictions ---
def mistakes(*policies: Any, evidence: bool = True, services: tuple[Service, ...] = (service(),)) -> list[Any]:
    return list(policy_contradictions(policies, services, evidence=evidence))


LOGGED = service(logs=({"file": "/var/log/shop.log"},))


DUPLICATE = "duplicate name backend-down, as policies[0]"
NO_LOGS = "service backend has no `logs` to preserve"
SILENCES = "silences the alerts that the policy matches"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (mistakes(policy()), []),
        (mistakes(policy(), policy(name="other")), []),
        (
            mistakes(policy(), policy()),
            [(("policies", 1, "name"), f"{DUPLICATE}; give each its own name")],
        ),
        (mistakes(policy(roll_back={"label": "service"})), []),
        (
            mistakes(policy(roll_back=("backend", "backnd"))),
            [(("policies", 0, "roll_back", 1), "no service backnd is configured; did you mean backend?")],
        ),
        (
            mistakes(policy(), policy(name="b", preserve_logs=("backend",)), evidence=False, services=(LOGGED,)),
            [(("policies", 1, "preserve_logs"), "no store for the logs; configure `evidence`")],
        ),
        (mistakes(policy(preserve_logs=("backend",)), services=(LOGGED,)), []),
        (mistakes(policy(preserve_logs=("backend",)), services=(service(environment="staging"), LOGGED)), []),
        (
            mistakes(policy(preserve_logs=("backend",))),
            [(("policies", 0, "preserve_logs", 0), f"{NO_LOGS}; add them to the service")],
        ),
        (mistakes(policy(preserve_logs={"label": "service"})), []),
        (mistakes(policy(silence_collateral=({"match": ['alertname="FrontendDown"']},))), []),
        (
            mistakes(policy(silence_collateral=({"match": ['alertname="A"']}, {"match": ['alertname=~"Backend.*"']}))),
            [
                (
                    ("policies", 0, "silence_collateral", 1),
                    f"{SILENCES}; match other alerts",
                )
            ],
        ),
    ],
)
def test_contradictions_of_policies(found: list[Any], expected: list[Any]) -> None:
    assert found == expected


def test_a_freeze_of_an_unknown_service() -> None:
    freezes = [
        Freeze.model_validate({"name": "f", "time_intervals": [{}], "services": names})
        for names in (["backend"], ["backend", "backnd"])
    ]
    (mistake,) = freeze_contradictions(freezes, [service()])
    assert mistake == (("freezes", 1, "services", 1), "no service backnd is configured; did you mean backend?")


# --- versions ---
@pytest.mark.parametrize(("strategy", "chosen"), [(None, "immediate"), ("rolling", "rolling")])
def test_the_version_change(strategy: str | None, chosen: str) -> None:
    facts = make_facts(
        target=Candidate(version="2.0", status="good", artifact="shop@1"), running=deployment(artifact="shop@2")
    )
    assert facts.version_change(strategy) == VersionChange(
        service="backend",
        environment="production",
        from_version="2.1",
        to_version="2.0",
        strategy=chosen,
        artifacts={"": "shop@1"},
        from_artifacts={"": "shop@2"},
    )


def test_without_artifacts_the_versions_name_them() -> None:
    change = make_facts().version_change(None)
    assert change is not None
    assert (change.artifacts, change.from_artifacts) == ({}, {})


@pytest.mark.parametrize("missing", ["service", "running", "target"])
def test_no_version_change_without_a_service_and_two_versions(missing: str) -> None:
    assert make_facts(**{missing: None}).version_change(None) is None


def test_the_newer_version_that_was_replaced_is_suspected() -> None:
    replaced = Replaced(version="2.2", at=NOW, status="candidate")
    assert make_facts(replaced=replaced).suspected == replaced
    assert make_facts().suspected == deployment()
    assert Facts().suspected is None
