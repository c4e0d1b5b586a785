"""The guarantees of the journal on SQLite and PostgreSQL: once, in order, behind a fence, under a lease."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from responder.backends.alertmanager.alerts import Alert, UndatedAlert, fingerprint
from responder.decisions.recording import record_decision
from responder.errors import ConfigError, Conflict, JournalUnavailable, LeaseLost, Unknown
from responder.journal import (
    Database,
    Transaction,
    alert_times,
    decisions,
    deployments,
    executions,
    open_journal,
)
from responder.journal.database import load_migrations
from responder.journal.decisions import RecordedDecision
from responder.journal.deployments import Deployment
from responder.journal.postgres import schema as postgres_schema
from responder.journal.sqlite import schema as sqlite_schema
from responder.rollback.events import Accepted, ApprovalRequested, Closed, Planned, Resumed, StepFailed, StopRequested
from responder.rollback.execution import Execution
from responder.services import registry, rollbacks
from tests.responder.examples import plan

NOW = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)


def alert(name: str = "ShopDown", **labels: str) -> Alert:
    labels = {"alertname": name, "service": "shop", **labels}
    return Alert(status="firing", labels=labels, starts_at=NOW, fingerprint=fingerprint(labels))


def accepted(service: str = "shop", *, alerts: tuple[Alert, ...] = (), at: datetime = NOW) -> Accepted:
    return Accepted(
        at=at,
        service=service,
        environment="test",
        policy="p",
        strategy="immediate",
        from_version="2",
        to_version="1",
        requested_by="tests",
        reason="a test",
        alerts=alerts,
        received_at=at,
    )


async def accept(journal: Database, service: str = "shop", **more: Any) -> Execution:
    event = accepted(service, **more)
    return await journal.transaction(rollbacks.accept, executions.new_id(event.at), event)


async def worker(journal: Database, name: str = "w1", lease: float = 60.0) -> str:
    await journal.transaction(executions.register, name, lease, datetime.now(UTC))
    return name


async def claim(journal: Database, name: str, *, concurrent: int = 9) -> list[tuple[Execution, int]]:
    later = datetime.now(UTC) + timedelta(minutes=1)
    claimed, _ = await journal.transaction(executions.claim, name, later, concurrent=concurrent, running=())
    return claimed


def deployment(version: str, minutes: int = 0, **more: Any) -> Deployment:
    fields = {"id": f"d-{version}-{minutes}", "service": "shop", "environment": "test", "recorded_by": "tests", **more}
    return Deployment(version=version, at=NOW + timedelta(minutes=minutes), **fields)


async def test_an_accepted_execution_is_read_back_completely(journal: Database) -> None:
    first = await accept(journal, alerts=(alert(instance="a"), alert(instance="b")))
    assert await journal.read(executions.load, first.id) == first


async def test_one_live_execution_per_service(journal: Database) -> None:
    first = await accept(journal)
    with pytest.raises(Conflict, match="being rolled back"):
        await accept(journal)
    await accept(journal, "other")
    done = Closed(at=NOW, outcome="failed", by="tests", reason="over")
    await journal.transaction(rollbacks.append, first, [done], None)
    await accept(journal)


async def test_a_stuck_execution_keeps_the_lock(journal: Database) -> None:
    first = await accept(journal)
    await journal.transaction(rollbacks.append, first, [StepFailed(at=NOW, reason="drift", freeze=True)], None)
    with pytest.raises(Conflict):
        await accept(journal)


async def test_an_alert_opens_one_rollback(journal: Database) -> None:
    first = await accept(journal, alerts=(alert(),))
    done = Closed(at=NOW, outcome="failed", by="tests", reason="over")
    await journal.transaction(rollbacks.append, first, [done], None)
    with pytest.raises(Conflict, match="opened a rollback"):
        await accept(journal, alerts=(alert(instance="new"), alert()))
    # A denied submission leaves nothing behind: neither the execution nor the other alert's record.
    assert len(await journal.read(executions.find)) == 1
    await accept(journal, alerts=(alert(instance="new"),))


async def test_racing_submissions_are_accepted_once_each(journal: Database) -> None:
    async def submit(service: str) -> bool:
        try:
            await accept(journal, service, alerts=(alert(service=service),))
        except Conflict:
            return False
        return True

    services = [f"s{n}" for n in range(200)]
    results = await asyncio.gather(*(submit(s) for s in services), *(submit(s) for s in services))
    assert sum(results) == 200
    assert len(await journal.read(executions.find, most=1000)) == 200


async def test_the_fence(journal: Database) -> None:
    execution = await accept(journal)
    first = Resumed(at=NOW, worker="a")
    await journal.transaction(rollbacks.append, execution, [first], None)
    with pytest.raises(LeaseLost, match="event 1"):
        await journal.transaction(rollbacks.append, execution, [Resumed(at=NOW, worker="b")], None)
    assert [e.type for e in await journal.read(executions.events_of, execution.id)] == ["accepted", "resumed"]


async def test_only_the_owner_appends(journal: Database) -> None:
    execution = await accept(journal)
    owner = await worker(journal)
    await claim(journal, owner)
    with pytest.raises(LeaseLost, match="another worker"):
        await journal.transaction(rollbacks.append, execution, [Resumed(at=NOW, worker="x")], "somebody else")
    await journal.transaction(rollbacks.append, execution, [Resumed(at=NOW, worker=owner)], owner)


async def test_claims_are_limited_over_all_workers(journal: Database) -> None:
    for service in ("a", "b", "c"):
        await accept(journal, service)
    first, second = await worker(journal, "w1"), await worker(journal, "w2")
    assert len(await claim(journal, first, concurrent=2)) == 2
    assert await claim(journal, second, concurrent=2) == []
    assert len(await claim(journal, second, concurrent=3)) == 1


async def test_an_expired_lease_lets_another_worker_continue(journal: Database) -> None:
    execution = await accept(journal)
    dead = await worker(journal, "dead", lease=0.05)
    assert [x.id for x, _ in await claim(journal, dead)] == [execution.id]
    heir = await worker(journal, "heir")
    await asyncio.sleep(0.1)
    [(resumed, times)] = await claim(journal, heir)
    assert (resumed.id, times) == (execution.id, 1)
    assert not await journal.transaction(executions.renew, dead, 60.0)
    with pytest.raises(LeaseLost):
        await journal.transaction(rollbacks.append, execution, [Resumed(at=NOW, worker=dead)], dead)


async def test_an_interrupted_execution_is_resumed_before_a_new_one_starts(journal: Database) -> None:
    waiting = await accept(journal, "first", at=NOW)
    interrupted = await accept(journal, "second", at=NOW + timedelta(minutes=1))
    dead = await worker(journal, "dead", lease=0.05)
    assert await journal.transaction(executions.claim_new, interrupted, dead, concurrent=1)
    await asyncio.sleep(0.1)
    heir = await worker(journal, "heir")
    newest = await accept(journal, "third", at=NOW + timedelta(minutes=2))
    assert not await journal.transaction(executions.claim_new, newest, heir, concurrent=1)
    assert [x.id for x, _ in await claim(journal, heir, concurrent=1)] == [interrupted.id]
    done = Closed(at=NOW, outcome="failed", by="tests", reason="over")
    resumed = await journal.read(executions.load, interrupted.id)
    await journal.transaction(rollbacks.append, resumed, [done], heir)
    assert [x.id for x, _ in await claim(journal, heir, concurrent=1)] == [waiting.id]


async def test_an_interrupted_execution_needs_no_free_slot(journal: Database) -> None:
    interrupted = await accept(journal, "a")
    dead = await worker(journal, "dead", lease=600.0)
    await claim(journal, dead)
    await accept(journal, "b")
    heir = await worker(journal, "heir")
    [(running, _)] = await claim(journal, heir, concurrent=2)
    assert running.accepted.service == "b"
    assert await journal.transaction(executions.renew, dead, 0.05)
    await asyncio.sleep(0.1)
    later = datetime.now(UTC) + timedelta(minutes=1)
    still_running = (running.id,)
    claimed, _ = await journal.transaction(executions.claim, heir, later, concurrent=1, running=still_running)
    assert [x.id for x, _ in claimed] == [interrupted.id]


async def test_a_valid_lease_is_renewed(journal: Database) -> None:
    name = await worker(journal, lease=5.0)
    assert await journal.transaction(executions.renew, name, 5.0)
    assert not await journal.transaction(executions.renew, "never seen", 5.0)


async def test_a_failed_transaction_leaves_nothing_and_affects_no_other(journal: Database) -> None:
    async def fails(tx: Transaction) -> None:
        await registry.record(tx, deployment("9"))
        raise LookupError("half way")

    async def works(n: int) -> None:
        await journal.transaction(registry.record, deployment(str(n)))

    results = await asyncio.gather(
        *(works(n) for n in range(20)),
        journal.transaction(fails),
        *(works(n) for n in range(20, 40)),
        return_exceptions=True,
    )
    assert [type(r) for r in results if r is not None] == [LookupError]
    found = await journal.read(deployments.find, "shop", None, 100)
    assert {row["id"] for row in found} == {f"d-{n}-0" for n in range(40)}


async def test_changed_wakes_every_waiter(journal: Database) -> None:
    while await journal.changed(0.05):
        pass
    waiting = asyncio.create_task(journal.changed(10))
    await asyncio.sleep(0)
    await accept(journal)
    assert await waiting
    assert not await journal.changed(0.05)


async def test_two_replicas_notify_each_other(state: str) -> None:
    if state.startswith("sqlite"):
        opened = await open_journal(state)
        with pytest.raises(ConfigError, match="in use by another responder"):
            await open_journal(state)
        await opened.close()
        return
    first, second = await open_journal(state), await open_journal(state)
    while await second.changed(0.3):
        pass
    waiting = asyncio.create_task(second.changed(10))
    await accept(first)
    assert await waiting
    assert len(await second.read(executions.find)) == 1
    await first.close()
    await second.close()


async def test_a_reopened_journal_has_all_its_content(state: str) -> None:
    first = await open_journal(state)
    execution = await accept(first, alerts=(alert(),))
    await first.close()
    second = await open_journal(state)
    assert await second.read(executions.load, execution.id) == execution
    await second.close()


async def test_a_newer_schema_is_rejected(state: str) -> None:
    opened = await open_journal(state)
    if state.startswith("sqlite"):
        await opened.close()
        with sqlite3.connect(state.removeprefix("sqlite://")) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        import asyncpg

        await opened.close()
        raw = await asyncpg.connect(state)
        await raw.execute("INSERT INTO schema_version VALUES (99)")
        await raw.close()
    with pytest.raises(ConfigError, match="newer version of the responder"):
        await open_journal(state)


_SECOND = """
ALTER TABLE executions ADD COLUMN noted TEXT NOT NULL DEFAULT 'none';
CREATE VIEW noted AS SELECT id, noted FROM executions;
"""


async def test_a_new_migration_keeps_existing_records(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = await open_journal(state)
    execution = await accept(opened, alerts=(alert(),))
    await opened.close()
    for module in (sqlite_schema, postgres_schema):
        monkeypatch.setattr(module, "load_migrations", lambda: [*load_migrations(), _SECOND])
    for _ in range(2):  # the second time there is nothing to migrate
        opened = await open_journal(state)
        assert await opened.read(executions.load, execution.id) == execution
        assert [row["noted"] for row in await rows(opened, "noted")] == ["none"]
        await opened.close()


async def test_a_failed_migration_leaves_the_schema_unchanged(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await open_journal(state)).close()
    with monkeypatch.context() as broken:
        for module in (sqlite_schema, postgres_schema):
            broken.setattr(module, "load_migrations", lambda: [*load_migrations(), f"{_SECOND} SELECT * FROM nowhere"])
        with pytest.raises(ConfigError, match="nowhere"):
            await open_journal(state)
    opened = await open_journal(state)
    await accept(opened)
    assert "noted" not in (await opened.read(executions.find))[0]
    await opened.close()


async def test_repeated_decisions_are_counted(journal: Database) -> None:
    def decision(n: int, guard: str) -> RecordedDecision:
        return RecordedDecision(
            id=f"x{n}",
            incident="i",
            at=NOW + timedelta(minutes=n),
            last_at=NOW,
            policy="p",
            service="shop",
            environment="test",
            result="deny",
            guard=guard,
            reason=f"reason {n}",
            body='{"n": 1}',
        )

    for n, guard in enumerate(("cooldown", "cooldown", "mode", "cooldown")):
        await journal.transaction(record_decision, decision(n, guard))
    rows = await journal.read(decisions.find, service="shop", since=None, most=10)
    assert [(r["guard"], r["times"], r["reason"]) for r in rows] == [
        ("cooldown", 3, "reason 3"),
        ("mode", 1, "reason 2"),
    ]
    assert rows[0]["at"] == NOW
    assert rows[0]["last_at"] == NOW + timedelta(minutes=3)
    assert await journal.read(decisions.find, service=None, since=NOW + timedelta(hours=1), most=10) == []


async def test_deployments_and_the_status_of_versions(journal: Database) -> None:
    assert await journal.transaction(registry.record, deployment("1"), "good")
    assert await journal.transaction(registry.record, deployment("2", 1))
    assert not await journal.transaction(registry.record, deployment("2", 1))
    [running] = await journal.read(deployments.running)
    assert (running.version, running.status) == ("2", "candidate")
    with pytest.raises(Unknown):
        await journal.transaction(registry.mark, "shop", "test", "7", "good", "no reason", NOW)


async def test_a_success_marks_both_versions_in_the_same_transaction(journal: Database) -> None:
    await journal.transaction(registry.record, deployment("1", -20), "good")
    await journal.transaction(registry.record, deployment("2", -10))
    execution = await accept(journal)
    done = Closed(at=NOW, outcome="succeeded", by="responder", reason="")
    await journal.transaction(rollbacks.append, execution, [done], None)
    [running] = await journal.read(deployments.running)
    assert (running.version, running.rolled_back_by, running.status) == ("1", execution.id, "good")

    async def status(tx: Transaction) -> Any:
        return await tx.first("version", service="shop", environment="test", version="2")

    assert (await journal.read(status))["status"] == "bad"


async def test_the_kill_switch(journal: Database) -> None:
    assert await journal.read(decisions.kill_switch) is None
    await journal.transaction(decisions.set_kill_switch, "alice", "maintenance", NOW)
    thrown = await journal.read(decisions.kill_switch)
    assert thrown is not None
    assert (thrown.set_by, thrown.reason, thrown.at) == ("alice", "maintenance", NOW)
    assert await journal.transaction(decisions.release_kill_switch)
    assert not await journal.transaction(decisions.release_kill_switch)


async def test_stopping(journal: Database) -> None:
    execution = await accept(journal)
    await journal.transaction(executions.request_stop, execution.id, "alice", "first")
    await journal.transaction(executions.request_stop, execution.id, "bob", "second")

    async def stop_request(tx: Transaction) -> Any:
        return await tx.first("stop_request", id=execution.id)

    row = await journal.read(stop_request)
    assert (row["stop_requested_by"], row["stop_reason"]) == ("alice", "first")
    with pytest.raises(Unknown):
        await journal.transaction(executions.request_stop, "nobody", "x", "y")
    done = Closed(at=NOW, outcome="failed", by="tests", reason="over")
    await journal.transaction(rollbacks.append, execution, [done], None)
    with pytest.raises(Conflict, match="closed"):
        await journal.transaction(executions.request_stop, execution.id, "x", "y")


@pytest.mark.parametrize(
    ("view", "columns"),
    [
        (
            "rollback_history",
            "id service environment policy strategy from_version to_version requested_by state outcome "
            "reason onset_at firing_at accepted_at acted_at ended_at duration_seconds changed",
        ),
        ("rollback_steps", "execution service environment step title started_at ended_at result note"),
        ("rollback_decisions", "id at last_at times policy service environment result guard reason execution"),
        ("rollback_events", "execution service environment seq at type state step title note"),
        (
            "rollback_alerts",
            "execution policy service environment alertname starts_at labels summary generator_url fingerprint",
        ),
        (
            "service_versions",
            "service environment version status reason status_at artifact no_rollback deployed_at runs",
        ),
        ("deployments", "id service environment version artifact at recorded_by rolled_back_by status provenance"),
        (
            "platform_deployments",
            "id service environment platform version artifact provenance at recorded_by rolled_back_by status",
        ),
        ("version_marks", "service environment version revision at marked_by status reason no_rollback"),
        ("version_requirements", "service environment version needs revision at reported_by versions"),
        (
            "client_changes",
            "service environment platform revision at changed_by reason min_version blocked_versions flags",
        ),
    ],
)
async def test_the_documented_views_have_their_columns(journal: Database, view: str, columns: str) -> None:
    async def look(tx: Any) -> list[str]:
        if hasattr(tx._connection, "fetch"):
            statement = await tx._connection.prepare(f"SELECT * FROM {view}")
            return [a.name for a in statement.get_attributes()]
        return [d[0] for d in tx._connection.execute(f"SELECT * FROM {view}").description]

    assert await journal.read(look) == columns.split()


async def rows(journal: Database, view: str) -> list[dict[str, Any]]:
    async def look(tx: Any) -> list[dict[str, Any]]:
        if hasattr(tx._connection, "fetch"):
            return [dict(row) for row in await tx._connection.fetch(f"SELECT * FROM {view}")]
        found = tx._connection.execute(f"SELECT * FROM {view}")
        return [dict(zip([d[0] for d in found.description], row, strict=True)) for row in found.fetchall()]

    return await journal.read(look)


async def test_the_views_show_rollbacks_and_the_state_after_each_event(journal: Database) -> None:
    first = await accept(journal, alerts=(alert(),))
    until = NOW + timedelta(minutes=15)
    events = [
        Planned(at=NOW, plan=plan()),
        ApprovalRequested(at=NOW, reason="mode is approve", until=until),
        StopRequested(at=NOW, by="alice", reason="mine"),
        Closed(at=NOW, outcome="cancelled", by="responder", reason=""),
    ]
    await journal.transaction(rollbacks.append, first, events, None)
    found = sorted(await rows(journal, "rollback_events"), key=lambda row: row["seq"])
    assert [(row["type"], row["state"], row["note"]) for row in found] == [
        ("accepted", "accepted", "a test"),
        ("planned", "running", f"2 steps, plan {plan().hash}"),
        ("approval_requested", "awaiting_approval", "mode is approve; waits until 2026-11-23 22:15:00 UTC"),
        ("stop_requested", "reverting", "by alice: mine"),
        ("closed", "closed", "cancelled, by responder"),
    ]


async def test_the_views_show_the_alerts_that_opened_a_rollback(journal: Database) -> None:
    opening = alert().model_copy(update={"annotations": {"summary": "no\0 answer"}, "generator_url": "http://p/graph"})
    first = await accept(journal, alerts=(opening,))
    [found] = await rows(journal, "rollback_alerts")
    assert (found["execution"], found["alertname"], found["summary"]) == (first.id, "ShopDown", "no answer")
    assert json.loads(found["labels"]) == {"alertname": "ShopDown", "service": "shop"}
    assert found["generator_url"] == "http://p/graph"


async def test_the_views_show_running_versions_and_rollback_targets(journal: Database) -> None:
    for minutes, version, status in ((0, "1", "good"), (1, "2", "good"), (2, "3", "bad"), (3, "4", "good")):
        await journal.transaction(registry.record, deployment(version, minutes), status)
    found = {row["version"]: (row["status"], bool(row["runs"])) for row in await rows(journal, "service_versions")}
    assert found == {"1": ("good", False), "2": ("good", False), "3": ("bad", False), "4": ("good", True)}
    targets = await journal.read(_ask("targets"))
    assert [dict(row) for row in targets] == [{"service": "shop", "environment": "test", "version": "2"}]
    counts = await journal.read(_ask("count_by_status"))
    assert {row["status"]: row["n"] for row in counts} == {"good": 3, "bad": 1}


def _ask(query: str, **params: Any) -> Any:
    async def ask(tx: Transaction) -> Any:
        return await tx.all(query, **params)

    return ask


async def test_grafana_reads_only_the_views(postgres_server: Any) -> None:
    import asyncpg

    dsn = await postgres_server.database("grafana_reads")
    admin = await asyncpg.connect(dsn)
    if not await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'grafana_reader'"):
        await admin.execute("CREATE ROLE grafana_reader")
    opened = await open_journal(dsn)
    await accept(opened)
    await admin.execute("SET ROLE grafana_reader")
    assert await admin.fetchval("SELECT count(*) FROM rollback_history") == 1
    views = (
        "rollback_steps",
        "rollback_events",
        "rollback_alerts",
        "rollback_decisions",
        "rollback_parts",
        "deployments",
    )
    more = (
        "platform_deployments",
        "version_marks",
        "version_requirements",
        "client_changes",
        "service_versions",
        "evidence_kept",
    )
    for view in (*views, *more):
        await admin.fetch(f"SELECT * FROM {view}")
    for table in (
        "executions",
        "events",
        "decisions",
        "recorded_deployments",
        "versions",
        "workers",
        "switches",
        "opening_alerts",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await admin.fetch(f"SELECT * FROM {table}")
    await admin.close()
    await opened.close()


async def test_a_stopped_postgres_is_unavailable_and_recovers(tmp_path: Path) -> None:
    from tests import parts

    parts.need("postgres")
    async with parts.postgres(tmp_path) as server:
        opened = await open_journal(await server.database("comes_back"))
        execution = await accept(opened)
        await server.stop(mode="immediate")
        with pytest.raises(JournalUnavailable):
            await accept(opened, "other")
        with pytest.raises(JournalUnavailable):
            await opened.read(executions.load, execution.id)
        await server.start()
        async with asyncio.timeout(60):
            while True:
                try:
                    assert await opened.read(executions.load, execution.id) == execution
                    break
                except JournalUnavailable:
                    await asyncio.sleep(0.05)
        await accept(opened, "other")
        async with asyncio.timeout(60):  # it also listens again
            while not await opened.changed(0.2):
                await accept(opened, f"s{datetime.now(UTC).timestamp()}")
        await opened.close()


async def test_a_full_disk_is_unavailable_and_nothing_is_lost(tmp_path: Path) -> None:
    opened = await open_journal(f"sqlite://{tmp_path / 'state.db'}")
    execution = await accept(opened)

    async def full(tx: Any) -> None:
        tx._connection.execute("PRAGMA max_page_count = 1")

    async def room(tx: Any) -> None:
        tx._connection.execute("PRAGMA max_page_count = 1000000")

    await opened.transaction(full)
    big = tuple(alert(instance=str(n), pad="x" * 900) for n in range(200))
    with pytest.raises(JournalUnavailable, match="full"):
        await accept(opened, "other", alerts=big)
    await opened.transaction(room)
    await accept(opened, "other", alerts=big)
    assert await opened.read(executions.load, execution.id) == execution
    await opened.close()


@pytest.mark.parametrize("url", ["sqlite://relative.db", "mysql://x", "", "sqlite:state.db"])
async def test_an_invalid_state_url_is_rejected(url: str) -> None:
    with pytest.raises(ConfigError, match="must be sqlite:///"):
        await open_journal(url)


async def test_an_unusable_state_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        await open_journal(f"sqlite://{tmp_path / 'file' / 'state.db'}")
    with pytest.raises(ConfigError, match="PostgreSQL cannot be used"):
        await open_journal("postgresql://nobody@127.0.0.1:1/none")


async def test_every_subscription_is_notified(journal: Database) -> None:
    """The worker and other waiters do not consume each other's notifications."""
    ears = [journal.listen() for _ in range(3)]
    while await journal.changed(0.05):
        pass
    for ear in ears:
        ear.notified.clear()
    waiting = [asyncio.create_task(listener.changed(10)) for listener in (journal, *ears[:2])]
    await asyncio.sleep(0)
    await accept(journal)
    assert await asyncio.gather(*waiting) == [True] * 3
    assert await ears[2].changed(10), "notified while it was not waiting"
    ears[0].close()
    await accept(journal, "other")
    assert await ears[1].changed(10)
    assert not await ears[0].changed(0.05)


async def test_the_progress_of_each_execution(journal: Database) -> None:
    old = await accept(journal, "old", at=NOW - timedelta(days=1))
    closed = await accept(journal, "closed")
    live = await accept(journal, "live", at=NOW - timedelta(days=2))
    for execution in (old, closed):
        ended = [StepFailed(at=NOW, reason="x"), Closed(at=NOW, outcome="failed", by="tests", reason="")]
        await journal.transaction(rollbacks.append, execution, ended, None)
    found = await journal.read(executions.heads, NOW)
    assert {i: (row["seq"], row["ended_at"]) for i, row in found.items()} == {closed.id: (2, NOW), live.id: (0, None)}
    found = await journal.read(executions.heads, NOW, old.id, "none")
    assert found[old.id]["seq"] == 2
    assert "none" not in found
    assert set(await journal.read(executions.ended_since, NOW)) == {old.id, closed.id}
    assert await journal.read(executions.ended_since, NOW + timedelta(seconds=1)) == []
    events = await journal.read(executions.events_after, closed.id, 0)
    assert [event.type for event in events] == ["step_failed", "closed"]


async def test_the_queries_of_a_report(journal: Database) -> None:
    first = await accept(journal)
    await journal.transaction(
        rollbacks.append, first, [Closed(at=NOW, outcome="failed", by="tests", reason="over")], None
    )
    second = await accept(journal, at=NOW + timedelta(minutes=1))
    fields = {"at": NOW, "last_at": NOW, "policy": "p", "service": "shop", "environment": "test", "reason": "r"}
    for n, (result, guard, forced) in enumerate(
        [
            ("deny", "cooldown", False),
            ("deny", "duplicate_alert", False),
            ("deny", "mode", True),
            ("allow", "mode", False),
        ]
    ):
        execution = second.id if result == "allow" else None
        more = {"id": f"d{n}", "incident": f"i{n}", "result": result, "guard": guard, "forced": forced, "body": "{}"}
        await journal.transaction(record_decision, RecordedDecision(**fields, **more, execution=execution))

    async def ask(tx: Transaction, query: str, **params: Any) -> list[Any]:
        return await tx.all(query, **params)

    where = {"service": "shop", "environment": "test"}
    assert [row["id"] for row in await journal.read(ask, "last_ended", **where)] == [first.id]
    assert [row["guard"] for row in await journal.read(ask, "denied_since", since=NOW, most=9)] == ["cooldown"]
    later = NOW + timedelta(seconds=1)
    assert await journal.read(ask, "denied_since", since=later, most=9) == []
    assert [row["id"] for row in await journal.read(ask, "decisions_of_execution", execution=second.id)] == ["d3"]
    for service, environment, n in (("shop", "test", 2), (None, None, 2), ("shop", None, 2), ("other", "test", 0)):
        rows = await journal.read(ask, "count_by_outcome", service=service, environment=environment)
        assert sum(row["n"] for row in rows) == n


# --- external text ---
async def test_text_that_no_database_stores_loses_only_its_invalid_characters(journal: Database) -> None:
    """Logs, errors and comments are recorded, whatever text they contain."""
    fields = {"policy": "p", "service": "shop", "environment": "test", "result": "deny", "guard": "firing"}
    odd = RecordedDecision(
        id="d1",
        incident="i1",
        at=NOW,
        last_at=NOW,
        reason="a\0b \ud800c Zoë",
        body=json.dumps({"text": "a\0b"}),
        **fields,
    )
    await journal.transaction(record_decision, odd)
    (row,) = await journal.read(decisions.find, service="shop", since=None, most=9)
    assert (row["reason"], json.loads(row["body"])) == ("a\ufffdb \ufffdc Zoë", {"text": "a\ufffdb"})


async def test_the_start_of_an_alert_without_a_time(journal: Database) -> None:
    async def sent(minutes: float, **other: Any) -> datetime:
        at = NOW + timedelta(minutes=minutes)
        undated = UndatedAlert(**{**dict(alert()), "starts_at": at, **other})
        (dated,) = await journal.transaction(alert_times.remember, [undated], at)
        (known,) = await journal.read(alert_times.known, [undated], at)
        assert type(dated) is type(known) is Alert
        assert known.starts_at == dated.starts_at or undated.ends_at < at
        return dated.starts_at

    assert [await sent(n) for n in (0, 4, 9)] == [NOW] * 3, "each within five minutes of the previous one"
    assert await sent(14.1) == NOW + timedelta(minutes=14.1)
    assert await sent(16, ends_at=NOW + timedelta(minutes=60)) == NOW + timedelta(minutes=14.1)
    assert await sent(59) == NOW + timedelta(minutes=14.1)
    assert await sent(60, ends_at=NOW + timedelta(minutes=59.5)) == NOW + timedelta(minutes=14.1)
    assert await sent(60) == NOW + timedelta(minutes=60)
    assert await journal.transaction(alert_times.remember, [alert()], NOW) == [alert()]
