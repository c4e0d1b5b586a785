"""Versions per platform, their marks, and the rules for apps; the same on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import time_machine

from responder.backends.check import Finding
from responder.backends.connections import Connections
from responder.journal import Database, Row, Transaction, client_rules, deployments, executions, open_journal
from responder.journal.client_rules import Rules
from responder.journal.database import load_statements
from responder.journal.deployments import Deployment, Status
from responder.rollback.events import Accepted, Closed, Planned, StepCompleted, StepStarted
from responder.rollback.execution import Execution
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Mitigation, Plan, ServicePlan
from responder.runtime.promotion import promote
from responder.services import registry, rollbacks
from responder.services.client_rules import RuleChange, change_rules
from tests.responder.examples import gate, policy_set, service, version_change

NOW = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
ANDROID = ("frontend", "production", "android")


def deployment(version: str, platform: str = "", hours: float = 0, **more: Any) -> Deployment:
    given = {"id": f"{version}-{platform}-{hours}", "service": "frontend", "environment": "production", **more}
    return Deployment(version=version, platform=platform, at=NOW + timedelta(hours=hours), recorded_by="ci", **given)


async def report(journal: Database, *deployed: Deployment, status: Status | None = None) -> None:
    for reported in deployed:
        assert await journal.transaction(registry.record, reported, status)


async def runs(journal: Database, platform: str = "") -> str | None:
    found = await journal.read(deployments.newest, "frontend", "production", platform)
    return found.version if found else None


async def rows(journal: Database, query: str, **params: Any) -> list[Row]:
    async def ask(tx: Transaction) -> list[Row]:
        return await tx.all(query, **params)

    return await journal.read(ask)


async def deployed(journal: Database) -> list[str]:
    return [row["version"] for row in await journal.read(deployments.find, "frontend", "production", 100)]


async def test_a_release_reaches_one_platform_after_another(journal: Database) -> None:
    await report(journal, deployment("3.0", "web", 0), deployment("3.0", "android", 5, artifact="versionCode=1234"))
    assert [await runs(journal, p) for p in ("", "web", "android", "ios")] == ["3.0", "3.0", "3.0", None]
    assert await deployed(journal) == ["3.0"], "one release is one deployment of the service"
    newest = await journal.read(deployments.newest, "frontend", "production")
    assert newest and newest.at == NOW, "it starts with its first platform"


async def test_a_late_platform_does_not_make_an_older_release_the_newest(journal: Database) -> None:
    await report(journal, deployment("3.0", "web", 0), deployment("3.1", "web", 1), deployment("3.0", "android", 2))
    assert [await runs(journal, p) for p in ("", "web", "android")] == ["3.1", "3.1", "3.0"]
    await report(journal, deployment("3.0", "web", 3))
    assert await runs(journal) == "3.0", "a platform that ran it before was rolled back"


async def test_the_last_recorded_version_runs_whatever_the_reported_time(journal: Database) -> None:
    await report(journal, deployment("2", "web", 2), deployment("1", "web", 1))
    assert (await runs(journal), await runs(journal, "web")) == ("1", "1")
    await report(journal, deployment("4", "", 9), deployment("3", "", 8))
    assert await runs(journal) == "3"
    found = await journal.read(deployments.find, "frontend", "production", 9)
    assert [row["version"] for row in found] == ["3", "4", "1", "2"]
    assert len({row["at"] for row in found}) == 4


async def test_one_pipeline_run_can_report_every_platform(journal: Database) -> None:
    same = {"id": "run-9"}
    await report(
        journal,
        deployment("3.0", "web", **same),
        deployment("3.0", "android", **same),
        deployment("3.0", **same, artifact="i"),
    )
    assert (await rows(journal, "version", service="frontend", environment="production", version="3.0"))[0]["artifact"]
    assert not await journal.transaction(registry.record, deployment("3.0", "web", **same))
    found = await journal.read(deployments.get, deployment("9", "android", **same))
    assert (found.version, found.platform) == ("3.0", "android")


async def test_one_pipeline_run_can_report_every_service_and_environment(journal: Database) -> None:
    """The ID is that of the pipeline run, which goes from staging to production and releases two services."""
    scopes = ({"environment": "staging"}, {}, {"service": "backend"})
    for version, platform in (("3.0", ""), ("3.1", "web")):
        for hours, scope in enumerate(scopes):
            reported = deployment(version, platform, hours, **{"id": f"run-9{platform and '-p'}", **scope})
            assert await journal.transaction(registry.record, reported)
            assert not await journal.transaction(registry.record, reported), "a repeated report is one report"
            found = await journal.read(deployments.get, reported)
            assert (found.service, found.environment) == (reported.service, reported.environment)
            assert found.at - reported.at < timedelta(seconds=1)
    for where in (("frontend", "staging"), ("frontend", "production"), ("backend", "production")):
        assert len(await journal.read(deployments.find, *where, 9)) == 2
        newest = await journal.read(deployments.newest, *where)
        assert newest and newest.version == "3.1"


async def test_the_latest_reported_artifacts_count(journal: Database) -> None:
    await report(
        journal, deployment("3.0", "android", 0, artifact="versionCode=1"), deployment("3.0", "ios", artifact="3.0 (7)")
    )
    await report(
        journal, deployment("3.0", "android", 1, artifact="versionCode=2"), deployment("3.1", "web", 2, artifact="sha")
    )
    whole = version_change("frontend", from_version="3.1", to_version="3.0", artifacts={"": "image"})
    found = await journal.read(deployments.with_platforms, whole)
    assert found.platform_versions == {"android": "3.0", "ios": "3.0", "web": "3.1"}
    assert found.artifacts == {"": "image", "android": "versionCode=2", "ios": "3.0 (7)"}
    assert found.from_artifacts == {"web": "sha"}


async def test_the_artifact_of_the_service_as_a_whole_is_separate(journal: Database) -> None:
    await report(journal, deployment("3.0", "web", artifact="manifest"))
    where = {"service": "frontend", "environment": "production", "version": "3.0"}
    assert (await rows(journal, "version", **where))[0]["artifact"] == ""
    await report(journal, deployment("3.0", hours=1, artifact="image", provenance="https://ci/9"))
    await report(journal, deployment("3.0", hours=2, artifact="another"))
    [row] = await rows(journal, "version", **where)
    assert (row["artifact"], row["provenance"]) == ("image", "https://ci/9"), "the first report stays"


async def test_every_report_about_a_version_is_kept(journal: Database) -> None:
    await report(journal, deployment("3.0"))
    where = ("frontend", "production", "3.0")
    await journal.transaction(registry.mark, *where, "good", "it ran", NOW + timedelta(hours=1))
    await journal.transaction(registry.mark_no_rollback, *where, "CVE", NOW + timedelta(hours=2), "alice")
    await journal.transaction(registry.mark, *where, "retired", "too old", NOW + timedelta(hours=3), "bob")
    kept = await rows(journal, "marks", service="frontend", environment=None, most=9)
    assert [(m["revision"], m["status"], m["no_rollback"], m["marked_by"], m["reason"]) for m in kept] == [
        (4, "retired", "CVE", "bob", "too old"),
        (3, "good", "CVE", "alice", "it ran"),
        (2, "good", "", "responder", "it ran"),
        (1, "candidate", "", "ci", "newly deployed"),
    ]
    assert kept[1]["at"] == NOW + timedelta(hours=2)
    [now] = await rows(journal, "version", service="frontend", environment="production", version="3.0")
    assert (now["revision"], now["status"], now["no_rollback"]) == (4, "retired", "CVE")
    assert now["status_at"] == NOW + timedelta(hours=3)
    found = await journal.read(deployments.newest, "frontend", "production")
    assert found and found.status == "retired"


async def test_an_unchanged_value_adds_no_record(journal: Database) -> None:
    await report(journal, deployment("3.0"), deployment("3.0", hours=1), deployment("3.0", "web", 2))
    assert len(await rows(journal, "marks", service="frontend", environment="production", most=9)) == 1


async def test_every_reported_requirement_is_kept(journal: Database) -> None:
    await report(journal, deployment("3.0"))
    for hours, by, needs in (
        (1, "ci", {"backend": ">=2.1", "search": ">=1"}),
        (2, "ci", {"backend": ">=2.1"}),  # a pipeline that retries
        (3, "alice", {"backend": ">=2"}),
        (4, "bob", {"backend": ">=2.1"}),
    ):
        reported = deployment("3.0").model_copy(update={"recorded_by": by})
        await journal.transaction(registry.require, reported, needs, NOW + timedelta(hours=hours))
    where = {"service": "frontend", "environment": "production"}
    in_force = await rows(journal, "requirements_of", **where, version="3.0")
    assert [(row["needs"], row["versions"]) for row in in_force] == [("backend", ">=2.1"), ("search", ">=1")]
    kept = await rows(journal, "requirement_changes", **where, most=9)
    assert [(k["needs"], k["revision"], k["versions"], k["reported_by"], k["at"]) for k in kept] == [
        ("backend", 3, ">=2.1", "bob", NOW + timedelta(hours=4)),
        ("backend", 2, ">=2", "alice", NOW + timedelta(hours=3)),
        ("search", 1, ">=1", "ci", NOW + timedelta(hours=1)),
        ("backend", 1, ">=2.1", "ci", NOW + timedelta(hours=1)),
    ]
    assert len(await rows(journal, "requirement_changes", service="frontend", environment=None, most=2)) == 2


def test_history_is_never_changed() -> None:
    for name, sql in load_statements({"now": "", "later": ""}).items():
        changed = re.findall(r"(?:UPDATE|DELETE FROM) (\w+)", sql)
        assert not {"recorded_deployments", "artifacts", "marks", "client_rule_changes", "requirement_changes"} & set(
            changed
        ), name


async def test_several_services_are_locked_in_one_order() -> None:
    """Otherwise two of them deadlock, and PostgreSQL aborts one."""
    places = [("shop", "test"), ("shop-admin", "test"), ("shop", "production"), ("shop", "test")]
    held: list[str] = []

    class Locks:
        async def lock(self, key: str) -> None:
            held.append(key)

    for order in (places, places[::-1]):
        await deployments.hold(cast(Transaction, Locks()), *order)
    assert held == ["shop/production", "shop/test", "shop-admin/test"] * 2


async def test_a_mark_during_the_promotion_is_not_overwritten(
    postgres_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check and the mark are two statements: on PostgreSQL, a concurrent mark waits for the lock."""
    journal = await open_journal(await postgres_server.database("promotion"))
    await report(journal, deployment("3.0", hours=-1))
    known, looks, marks = registry.untroubled_since, list[None](), list[asyncio.Task[None]]()
    bad = ("frontend", "production", "3.0", "bad", "x", NOW)

    async def last_look(tx: Any, *args: Any) -> bool:
        if looks:
            marks.append(asyncio.create_task(journal.transaction(registry.mark, *bad)))
            assert not (await asyncio.wait(marks, timeout=0.2))[0]
        looks.append(None)
        return await known(tx, *args)

    class Healthy(Gateway):
        async def holds(self, check: Any) -> Finding:
            return Finding(holds=True, reason="")

    monkeypatch.setattr(registry, "untroubled_since", last_look)
    promoted = await promote(journal, policy_set(services=(service("frontend"),)), Healthy(Connections()), NOW)
    await asyncio.gather(*marks)
    [row] = await rows(journal, "version", service="frontend", environment="production", version="3.0")
    await journal.close()
    assert (len(marks), len(promoted), row["status"], row["revision"]) == (1, 1, "bad", 3)


@pytest.mark.parametrize("status", ["suspect", "bad", "retired", "candidate"])
async def test_only_good_versions_are_targets(journal: Database, status: Status) -> None:
    await report(journal, deployment("1", hours=1), deployment("2", hours=2), status="good")
    await report(journal, deployment("3", hours=3), status=status)
    await report(journal, deployment("4", hours=4))
    found = await rows(journal, "good_target", service="frontend", environment="production", running="4")
    assert [row["version"] for row in found] == ["2"]
    await journal.transaction(registry.record, deployment("1", hours=5, id="again"))
    found = await rows(journal, "good_target", service="frontend", environment="production", running="4")
    assert [row["version"] for row in found] == ["1"], "the one that was deployed last"


async def test_deployments_are_found_by_service_and_environment(journal: Database) -> None:
    await report(
        journal, deployment("1"), deployment("2", hours=2), deployment("7", hours=1, environment="staging", id="s")
    )
    await report(journal, deployment("9", hours=3, service="other", id="o"))

    async def found(service: str | None, environment: str | None, most: int = 9) -> str:
        return "".join(row["version"] for row in await journal.read(deployments.find, service, environment, most))

    assert await found(None, None) == "9271"
    assert await found(None, "production") == "921"
    assert (await found("frontend", None), await found("frontend", None, 2)) == ("271", "27")
    assert (await found("frontend", "staging"), await found("frontend", "moon"), await found("x", None)) == (
        "7",
        "",
        "",
    )


async def test_versions_are_counted_by_status(journal: Database) -> None:
    async def counted() -> dict[str, int]:
        found = await rows(journal, "count_by_status")
        assert {(row["service"], row["environment"]) for row in found} == {("frontend", "production")}
        return {row["status"]: row["n"] for row in found}

    await report(journal, deployment("1"), deployment("2", "web", 1), deployment("3", hours=2))
    assert await counted() == {"candidate": 3}
    where = ("frontend", "production")
    for version, status in (("1", "good"), ("2", "bad"), ("2", "bad"), ("3", "good"), ("1", "retired")):
        await journal.transaction(registry.mark, *where, version, status, "x", NOW)
    await journal.transaction(registry.mark_no_rollback, *where, "3", "CVE", NOW, "alice")
    assert await counted() == {"bad": 1, "good": 1, "retired": 1}


async def test_the_listed_target_is_the_one_that_would_be_chosen(journal: Database) -> None:
    await report(journal, deployment("1", hours=1), deployment("2", hours=2), status="good")
    await report(journal, deployment("3", hours=3), deployment("9", id="x", service="other"))
    [target] = await rows(journal, "targets")
    assert (target["service"], target["environment"], target["version"]) == ("frontend", "production", "2")
    [chosen] = await rows(journal, "good_target", service="frontend", environment="production", running="3")
    assert chosen["version"] == "2"


# --- what follows from a rollback ---
MITIGATION = Mitigation(
    platform="android",
    blocked_versions=("3.1",),
    min_version="3.0",
    flags={"checkout": False},
    remains="publish 3.0 again",
)


async def rolled_back(journal: Database, *mitigations: Mitigation, outcome: Any = "mitigated") -> Execution:
    accepted = Accepted(
        at=NOW,
        service="frontend",
        environment="production",
        policy="p",
        strategy="frontend",
        from_version="3.1",
        to_version="3.0",
        requested_by="tests",
        reason="errors",
        received_at=NOW,
    )
    execution = await journal.transaction(rollbacks.accept, executions.new_id(NOW), accepted)
    version = version_change("frontend", from_version="3.1", to_version="3.0", strategy="frontend")
    plan = Plan(parts=(ServicePlan(version=version, steps=0),), steps=(gate(),), mitigations=mitigations)
    at = NOW + timedelta(hours=10)
    events = (
        Planned(at=at, plan=plan),
        StepStarted(at=at, step=0, title=str(gate())),
        StepCompleted(at=at, step=0, changed=False),
        Closed(at=at, outcome=outcome, by="responder", reason="over"),
    )
    return await journal.transaction(rollbacks.append, execution, events, None)


@pytest.fixture
async def released(journal: Database) -> Database:
    for version, hours in (("3.0", 0), ("3.1", 1)):
        for platform in ("web", "android"):
            await report(journal, deployment(version, platform, hours, artifact=f"{platform} {version}"))
    return journal


async def test_a_rollback_includes_the_platforms(released: Database) -> None:
    execution = await rolled_back(released, outcome="succeeded")
    assert [await runs(released, p) for p in ("", "web", "android")] == ["3.0", "3.0", "3.0"]
    there = await released.read(deployments.newest, "frontend", "production", "web")
    assert there and (there.artifact, there.rolled_back_by) == ("web 3.0", execution.id)
    assert await released.read(client_rules.get, *ANDROID) is None


async def test_a_mitigation_changes_the_rules_for_apps(released: Database) -> None:
    execution = await rolled_back(released, MITIGATION)
    assert [await runs(released, p) for p in ("", "web", "android")] == ["3.0", "3.0", "3.1"]
    rules = await released.read(client_rules.get, *ANDROID)
    assert rules == Rules(revision=1, min_version="3.0", blocked_versions=("3.1",), flags={"checkout": False})
    [change] = await released.read(client_rules.history, *ANDROID, 9)
    assert (change["changed_by"], change["reason"]) == ("responder", f"mitigated by {execution.id}")


async def test_closing_with_another_outcome_changes_no_rules_for_apps(released: Database) -> None:
    await rolled_back(released, MITIGATION, outcome="reverted")
    assert await released.read(client_rules.get, *ANDROID) is None
    assert await runs(released) == "3.1"


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ("2.9", "3.0", "3.0"),
        ("3.0.1", "3.0", "3.0.1"),
        ("", "3.0", "3.0"),
        ("2.9", "", "2.9"),
        ("abcdef", "3.0", "abcdef"),
    ],
)
async def test_a_mitigation_only_tightens_the_rules(released: Database, before: str, wanted: str, after: str) -> None:
    change = RuleChange(min_version=before, block=("1.0",), flags={"search": True, "checkout": True})
    await released.transaction(change_rules, *ANDROID, change, by="alice", reason="x", at=NOW)
    await rolled_back(released, MITIGATION.model_copy(update={"min_version": wanted}))
    rules = await released.read(client_rules.get, *ANDROID)
    assert rules and rules.min_version == after
    assert rules.blocked_versions == ("1.0", "3.1")
    assert rules.flags == {"checkout": False, "search": True}


async def test_each_service_has_its_own_mitigations(released: Database) -> None:
    await rolled_back(released, MITIGATION.model_copy(update={"service": "kiosk"}))
    assert await released.read(client_rules.get, *ANDROID) is None
    rules = await released.read(client_rules.get, "kiosk", "production", "android")
    assert rules and rules.blocked_versions == ("3.1",)
    assert await runs(released, "android") == "3.0"


async def test_every_change_of_the_rules_for_apps_is_kept(journal: Database) -> None:
    async def change(by: str, **what: Any) -> Rules:
        return await journal.transaction(change_rules, *ANDROID, RuleChange(**what), by=by, reason=f"{by} said", at=NOW)

    await change("alice", block=("3.1", "3.0"), flags={"b": True, "a": False})
    same = await change("bob", block=("3.0",))
    assert same.revision == 1, "nothing changed"
    await change("carol", unblock=("3.1",), min_version="2.0", flags={"b": None})
    last = await change("dave", min_version="")
    assert last == Rules(revision=3, blocked_versions=("3.0",), flags={"a": False})
    kept = await journal.read(client_rules.history, *ANDROID, 9)
    assert [(c["revision"], c["changed_by"], c["min_version"], c["blocked_versions"]) for c in kept] == [
        (3, "dave", "", ("3.0",)),
        (2, "carol", "2.0", ("3.0",)),
        (1, "alice", "", ("3.1", "3.0")),
    ]
    assert list(kept[2]["flags"]) == ["a", "b"], "in a stable order"


async def test_the_clock_of_a_replica_has_no_effect(postgres_server: Any) -> None:
    dsn = await postgres_server.database("skewed")
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=900), tick=True):
        ahead = await open_journal(dsn)
        of_ahead = ahead.now()
        assert datetime.now(UTC) - of_ahead > timedelta(seconds=800), "the skew is exported"
        await ahead.transaction(registry.record, deployment("2").model_copy(update={"at": of_ahead}))
    right = await open_journal(dsn)
    assert abs(right.now() - of_ahead) < timedelta(seconds=60)
    await right.transaction(registry.record, deployment("3").model_copy(update={"at": right.now()}))
    assert await runs(right) == await runs(ahead) == "3"
    await ahead.close()
    await right.close()
