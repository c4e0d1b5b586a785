"""Evidence is stored once before the first change, after any crash; it never stops a rollback, and expires."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from responder.backends.connections import Connections
from responder.decisions.policies import Policy
from responder.decisions.policy_set import PolicySet
from responder.errors import LeaseLost, Unavailable
from responder.evidence.collector import EvidenceCollector
from responder.evidence.maintenance import maintain
from responder.evidence.manifest import MANIFEST, Where, where
from responder.evidence.settings import EvidenceSettings
from responder.evidence.store import EvidenceStore
from responder.journal import Database, evidence, executions
from responder.rollback.events import Closed, EvidenceCollected
from responder.rollback.execution import Execution
from responder.runtime.lease import Lease
from responder.runtime.worker import Worker
from responder.services import registry, rollbacks
from responder.services.service import Service
from responder.testing.faults import Crash, Point
from responder.transport.aws import Aws
from responder.transport.object_store import one_block
from tests.journals import forget_everything
from tests.responder.evidence.conftest import aws_at, sources
from tests.responder.examples import LABELS, accepted, ago, alert, deployment, service
from tests.responder.outside import serving
from tests.responder.rollback.crash.drill import CrashDrill
from tests.responder.rollback.crash.stages import immediate

KEEPS = Policy(name="keep-logs", match=('alertname="Overload"',), preserve_logs=("backend",))


class _Through:
    """Every call passes through the point."""

    def __init__(self, target: Any, point: Point) -> None:
        self._target, self._point = target, point

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **more: Any) -> Any:
            return await self._point.around(name, lambda: method(*args, **more))

        return call


class _Interrupted(EvidenceCollector):
    point: Point

    async def store(self) -> EvidenceStore:
        return _Through(await super().store(), self.point)  # type: ignore[return-value]


@pytest.fixture
async def drill(journal: Database, tmp_path: Path) -> CrashDrill:
    made = CrashDrill(immediate(tmp_path), journal)
    await made.accept()
    return made


def with_logs(base: Service, log: Path) -> Service:
    return base.model_copy(update={"logs": sources({"file": str(log)})})


def collector_of(
    drill: CrashDrill, settings: EvidenceSettings, around: Connections, point: Point, log: Path
) -> _Interrupted:
    policy_set = PolicySet(services=(with_logs(drill.stage.service, log),))
    collector = _Interrupted(settings, _Through(drill.journal, point), policy_set, around)  # type: ignore[arg-type]
    collector.point = point
    return collector


def guard() -> None:
    """The lease is valid."""


async def test_evidence_is_recorded_before_the_first_step(
    drill: CrashDrill, directory: EvidenceSettings, around: Connections, tmp_path: Path
) -> None:
    log = next(tmp_path.rglob("followed"))  # which the restart of the rollback overwrites
    drill.keep = lambda point: (
        lambda e: collector_of(drill, directory, around, point, log).collect_for_rollback(e, guard)
    )
    ended = await drill.run_to_the_end()
    assert ended.outcome == "succeeded"
    events = await drill.events()
    assert [event.type for event in events][:4] == ["accepted", "planned", "evidence_collected", "step_started"]
    kept = events[2]
    assert isinstance(kept, EvidenceCollected)
    assert (kept.files, kept.missing, ended.evidence) == (2, 0, kept)
    assert kept.note.startswith("2 files, ")
    row = await drill.journal.read(evidence.find, drill.id)
    assert (row["state"], row["execution"], row["files"], row["location"]) == ("kept", drill.id, 2, kept.location)
    assert json.loads(row["manifest"])["id"] == drill.id


async def test_after_any_crash_evidence_is_stored_once_before_the_rollback(
    journal: Database, directory: EvidenceSettings, around: Connections, tmp_path: Path
) -> None:
    async def whole(n: int, point: Point) -> tuple[CrashDrill, EvidenceSettings]:
        home = tmp_path / f"{n}-{point.after}"
        home.mkdir()
        settings = directory.model_copy(update={"base_directory": home / "evidence"})
        drill = CrashDrill(immediate(home), journal)
        await drill.accept()
        log = next(home.rglob("followed"))
        drill.keep = lambda point: (
            lambda e: collector_of(drill, settings, around, point, log).collect_for_rollback(e, guard)
        )
        with contextlib.suppress(Crash):
            await drill.run(point)
        await drill.run_to_the_end()
        return drill, settings

    async def close(drill: CrashDrill) -> None:
        await journal.transaction(forget_everything)

    quiet = Point()
    drill, _ = await whole(-1, quiet)
    calls = [
        n for n, name in enumerate(quiet.names) if name in ("get", "begin", "put", "finish", "transaction", "append")
    ]
    assert {"get", "begin", "put", "finish", "transaction"} <= set(quiet.names)
    await close(drill)
    for n in calls:
        for after in (False, True):
            drill, settings = await whole(n, Point(at=n, after=after))
            ended = await drill.load()
            assert ended.outcome == "succeeded", (n, after, ended.reason)
            events = [event.type for event in await drill.events()]
            assert events.count("evidence_collected") == 1, (n, after)
            assert events.index("evidence_collected") < events.index("step_started")
            (manifest,) = Path(str(settings.base_directory)).rglob(MANIFEST)
            content = json.loads(manifest.read_text())
            assert {f.name for f in manifest.parent.iterdir()} == {MANIFEST, *(f["name"] for f in content["files"])}
            await close(drill)


async def test_a_rollback_continues_without_evidence(drill: CrashDrill, around: Connections, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = EvidenceSettings(base_directory=tmp_path / "file" / "evidence")
    log = tmp_path / "followed"
    outcomes: list[tuple[str, float, int]] = []
    collector = collector_of(drill, nowhere, around, Point(), log)
    collector._on_collected = lambda *outcome: outcomes.append(outcome)
    drill.keep = lambda point: lambda e: collector.collect_for_rollback(e, guard)
    assert (await drill.run_to_the_end()).outcome == "succeeded"
    (kept,) = [event for event in await drill.events() if isinstance(event, EvidenceCollected)]
    assert kept.note.startswith("no evidence was collected: ")
    assert kept.location == ""
    row = await drill.journal.read(evidence.find, drill.id)
    assert (row["state"], "Not a directory" in row["problem"]) == ("failed", True)
    assert [outcome for outcome, *_ in outcomes] == ["failed"]


async def test_no_manifest_is_written_without_the_lease(
    drill: CrashDrill, directory: EvidenceSettings, around: Connections, tmp_path: Path
) -> None:
    def lapsed() -> None:
        raise LeaseLost("the lease has run out")

    collector = collector_of(drill, directory, around, Point(), tmp_path / "followed")
    with pytest.raises(LeaseLost):
        await collector.collect_for_rollback(await drill.load(), lapsed)
    assert not list(tmp_path.rglob(MANIFEST))


async def test_evidence_is_collected_before_the_approval(
    drill: CrashDrill, directory: EvidenceSettings, around: Connections, tmp_path: Path
) -> None:
    from responder.rollback.execution import begin
    from responder.rollback.executor import execute
    from responder.rollback.gateway import Gateway
    from responder.rollback.ports import Ports
    from tests.responder.examples import plan
    from tests.responder.harness import Record, StopSignal

    calls = []

    async def keep(execution: Execution) -> EvidenceCollected:
        calls.append(execution.id)
        return EvidenceCollected(at=datetime.now(UTC), note="x")

    async def plan_for(execution: Execution) -> Any:
        return plan()

    record, details = Record(), accepted(approval_reason="a freeze")
    ports = Ports(
        record=record,
        gateway=Gateway(around),
        stop_signal=StopSignal(),
        plan_for=plan_for,
        keep=keep,
    )
    held = await execute(begin("r1", details), ports)
    assert [event.type for event in record.events] == ["planned", "evidence_collected", "approval_requested"]
    assert (held.state, calls) == ("awaiting_approval", ["r1"])


# --- requested by policies ---
@pytest.fixture
async def worker_id(journal: Database) -> AsyncIterator[str]:
    lease = Lease(journal, 60.0)
    await lease.take()
    yield lease.id


async def wanted(journal: Database, evidence_id: str = "20261123-220000-bbbb0000") -> str:
    await journal.transaction(
        evidence.request, evidence_id, policy="keep-logs", service="backend", environment="production",
        deployment_id="deploy-21", alerts=[alert({**LABELS, "alertname": "Overload"}, starts_at=datetime.now(UTC))],
        at=datetime.now(UTC),
    )  # fmt: skip
    return evidence_id


@pytest.fixture
def by_itself(journal: Database, settings: EvidenceSettings, around: Connections, tmp_path: Path) -> EvidenceCollector:
    log = tmp_path / "app.log"
    log.write_text("overloaded\n")
    return EvidenceCollector(
        settings, journal, PolicySet(services=(with_logs(service(), log),), policies=(KEEPS,)), around
    )


async def test_logs_requested_by_a_policy_are_collected_once(
    by_itself: EvidenceCollector, journal: Database, worker_id: str
) -> None:
    await journal.transaction(registry.record, deployment(), "good")
    evidence_id = await wanted(journal)
    assert await by_itself.collect_next_request(worker_id, guard) == "done"
    assert await by_itself.collect_next_request(worker_id, guard) == "nothing"
    row = await journal.read(evidence.find, evidence_id)
    assert (row["state"], row["execution"], row["deployment_id"], row["worker"]) == ("kept", None, "deploy-21", None)
    manifest = json.loads(row["manifest"])
    assert manifest["reason"] == "Overload on backend in production"
    assert "app.log.gz" in [file["name"] for file in manifest["files"]]


async def test_another_worker_collects_for_a_dead_worker(
    by_itself: EvidenceCollector, journal: Database, worker_id: str
) -> None:
    evidence_id = await wanted(journal)
    assert await journal.transaction(evidence.claim, worker_id)

    async def dies(tx: Any) -> None:
        await tx.all("end_lease", worker=worker_id)

    other = Lease(journal, 60.0)
    await other.take()
    assert await by_itself.collect_next_request(other.id, guard) == "nothing", "it lives, and keeps it"
    await journal.transaction(dies)
    assert await by_itself.collect_next_request(other.id, guard) == "done"
    assert (await journal.read(evidence.find, evidence_id))["tries"] == 2


async def test_an_unavailable_store_is_retried_and_given_up(
    journal: Database, around: Connections, worker_id: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    nowhere = EvidenceSettings(base_directory=tmp_path / "file" / "evidence")
    collector = EvidenceCollector(nowhere, journal, PolicySet(services=(service(),), policies=(KEEPS,)), around)
    evidence_id = await wanted(journal)
    seen = [await collector.collect_next_request(worker_id, guard) for _ in range(6)]
    assert seen == ["later"] * 4 + ["done", "nothing"]
    assert (await journal.read(evidence.find, evidence_id))["state"] == "failed"


async def test_the_worker_collects_requested_logs(
    by_itself: EvidenceCollector, journal: Database, around: Connections
) -> None:
    evidence_id = await wanted(journal)
    worker = Worker(journal, PolicySet, lambda: around, poll=0.02, evidence_collector=lambda: by_itself)
    running = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(60):
            while (await journal.read(evidence.find, evidence_id))["state"] != "kept":
                await asyncio.sleep(0.02)
    finally:
        await worker.close(grace=0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# --- retention ---
async def aged(collector: EvidenceCollector, evidence_id: str, days: float, *, complete: bool = True) -> None:
    """Evidence of that age, by the clock of the cleanup."""
    folder = where("deploy-21", evidence_id)
    begun = b'{"format": "rollback-responder/evidence/1"}'
    store = await collector.store()
    await store.begin(folder, begun)
    await store.put(folder, "app.log.gz", b"x")
    if complete:
        await store.finish(folder, begun)


async def ids(collector: EvidenceCollector) -> set[str]:
    return {stored.where.id for stored in await (await collector.store()).stored()}


async def test_expired_evidence_is_deleted_unless_its_rollback_is_open(
    by_itself: EvidenceCollector, journal: Database, worker_id: str
) -> None:
    kept = await wanted(journal)
    assert await by_itself.collect_next_request(worker_id, guard) == "done"
    now = datetime.now(UTC)
    await journal.transaction(rollbacks.accept, "open", accepted(at=now, received_at=now))
    for name in ("open", "closed"):
        await aged(by_itself, name, 0)
    assert await by_itself.delete_expired(now + timedelta(days=29)) == []
    later = now + timedelta(days=31)
    assert sorted(await by_itself.delete_expired(later)) == sorted([kept, "closed"])
    assert await ids(by_itself) == {"open"}
    assert (await journal.read(evidence.find, kept))["state"] == "deleted"
    execution = await journal.read(executions.load, "open")
    ended = Closed(at=now, outcome="failed", by="alice", reason="x")
    await journal.transaction(rollbacks.append, execution, [ended], None)
    assert await by_itself.delete_expired(later) == ["open"]
    assert await ids(by_itself) == set()


async def test_incomplete_evidence_is_deleted_later(by_itself: EvidenceCollector) -> None:
    await aged(by_itself, "half", 0, complete=False)
    now = datetime.now(UTC)
    assert await by_itself.delete_expired(now + timedelta(minutes=50)) == []
    assert await by_itself.delete_expired(now + timedelta(minutes=70)) == ["half"]
    assert await ids(by_itself) == set()


async def test_foreign_files_are_never_deleted(by_itself: EvidenceCollector, settings: EvidenceSettings) -> None:
    store, foreign, content = await by_itself.store(), where("somebody", "elses"), b'{"name": "of another program"}'
    base = settings.base_directory
    if base:
        (base / "somebody" / "elses").mkdir(parents=True)
        (base / "nginx").mkdir()
        (base / "nginx" / "access.log").write_text("x")
    await store.put(foreign, MANIFEST, content)
    if base:
        old = ago(86400 * 900).timestamp()
        os.utime(base / "somebody" / "elses" / MANIFEST, (old, old))
    assert [stored.where for stored in await store.stored()] == [foreign], "by its name it looks like evidence"
    assert await by_itself.delete_expired(datetime.now(UTC) + timedelta(days=900)) == []
    assert await store.get(foreign, MANIFEST) == content
    assert base is None or (base / "nginx" / "access.log").read_text() == "x"


async def test_a_folder_that_cannot_be_deleted_does_not_stop_the_others(
    by_itself: EvidenceCollector, store: EvidenceStore
) -> None:
    for name in ("a", "b", "c"):
        await aged(by_itself, name, 0)
    await store._objects.put("deploy-21/b/notes/todo.txt", one_block(b"of another program"))
    assert set(await by_itself.delete_expired(datetime.now(UTC) + timedelta(days=31))) == {"a", "c"}
    assert await ids(by_itself) == {"b"}
    assert await store.get(where("deploy-21", "b"), "app.log.gz") == b"x", "nothing of it is deleted"


async def test_a_busy_file_does_not_keep_the_evidence_of_others(
    by_itself: EvidenceCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        await aged(by_itself, name, 0)
    remove = EvidenceStore.remove

    async def busy(self: EvidenceStore, folder: Where) -> None:
        if folder.id == "b":
            raise Unavailable("/evidence/b/.nfs01: Device or resource busy")
        await remove(self, folder)

    monkeypatch.setattr(EvidenceStore, "remove", busy)
    assert set(await by_itself.delete_expired(datetime.now(UTC) + timedelta(days=31))) == {"a", "c"}
    assert await ids(by_itself) == {"b"}


async def test_evidence_is_private(
    journal: Database, directory: EvidenceSettings, around: Connections, worker_id: str
) -> None:
    collector = EvidenceCollector(directory, journal, PolicySet(services=(service(),), policies=(KEEPS,)), around)
    await wanted(journal)
    await collector.collect_next_request(worker_id, guard)
    base = Path(str(directory.base_directory))
    for path in (base, *base.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


async def test_an_invalid_store_answer_does_not_end_the_worker(
    journal: Database, worker_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def nonsense(request: web.Request) -> web.Response:
        text = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
        return web.Response(text=text, content_type="application/xml")

    async with serving(bucket=nonsense) as url:
        around = Connections({Aws: aws_at(url)}.get)
        collector = EvidenceCollector(EvidenceSettings(s3="s3://bucket"), journal, PolicySet(), around)
        upkeep = asyncio.create_task(maintain(lambda: collector, worker=worker_id, guard=guard, poll=0.01))
        try:
            async with asyncio.timeout(60):
                while "NextContinuationToken" not in caplog.text and not upkeep.done():
                    await asyncio.sleep(0.02)
            assert not upkeep.done()
        finally:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)
            await around.close()


async def test_maintenance_ends_with_the_lease(by_itself: EvidenceCollector, journal: Database, worker_id: str) -> None:
    def lapsed() -> None:
        raise LeaseLost("the lease has run out")

    await wanted(journal)
    with pytest.raises(LeaseLost):
        await maintain(lambda: by_itself, worker=worker_id, guard=lapsed, poll=0.01)
