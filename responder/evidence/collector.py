"""Collects evidence before each rollback and on request of a policy, and deletes it after its retention."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import TypeAdapter

from responder.backends.alertmanager.alerts import Alert
from responder.backends.connections import Connections
from responder.decisions.policy_set import PolicySet
from responder.errors import JournalUnavailable, LeaseLost, ResponderError, StepFailed, Unavailable
from responder.evidence.collect import Case, collect
from responder.evidence.manifest import EvidenceManifest
from responder.evidence.series import queries_of
from responder.evidence.settings import EvidenceSettings
from responder.evidence.store import EvidenceStore, is_evidence, store_of
from responder.journal import Database, Row, deployments, evidence
from responder.journal.deployments import Deployment
from responder.logging import say
from responder.rollback.events import EvidenceCollected
from responder.rollback.execution import Execution

log = logging.getLogger("responder.evidence")

_ALERTS: TypeAdapter[tuple[Alert, ...]] = TypeAdapter(tuple[Alert, ...])
_MAX_TRIES = 5
_UNFINISHED_FOR = timedelta(hours=1)
"""Evidence without a manifest that is older is left over from a crash: no collection takes that long."""

OnCollected = Callable[[str, float, int], None]
"""Receives the outcome of each collection (`complete`, `partial` or `failed`), its seconds and its bytes."""


class EvidenceCollector:
    """Collects evidence for one configuration."""

    def __init__(
        self,
        settings: EvidenceSettings,
        journal: Database,
        policy_set: PolicySet,
        connections: Connections,
        on_collected: OnCollected = lambda outcome, seconds, size: None,
    ) -> None:
        self.settings, self._journal, self._policy_set, self._connections = settings, journal, policy_set, connections
        self._on_collected = on_collected

    async def store(self) -> EvidenceStore:
        return await store_of(self.settings, self._connections)

    async def collect_for_rollback(self, execution: Execution, guard: Callable[[], None]) -> EvidenceCollected:
        """The event with the collected evidence. Raises only `LeaseLost` and `JournalUnavailable`."""
        accepted, now = execution.accepted, self._journal.now()
        parts = (self._policy_set.service(part.service, accepted.environment)[0] for part in accepted.parts)
        services = [service for service in parts if service]
        policy = self._policy_set.policy(accepted.policy)
        case = Case(
            id=execution.id,
            execution=execution.id,
            service=accepted.service,
            environment=accepted.environment,
            policy=accepted.policy,
            deployment_id=accepted.deployment_id,
            deployed_at=accepted.deployed_at,
            version=accepted.from_version,
            reason=accepted.reason,
            onset=_onset(accepted.alerts, accepted.onset_at or accepted.at),
            alerts=accepted.alerts,
            sources=tuple(source for service in services for source in service.sources),
            queries=tuple(queries_of(services, policy, accepted.alerts)),
        )
        try:
            manifest = await self._collect(case, guard)
        except (StepFailed, Unavailable) as e:
            await self._failed(case, str(e))
            ended_at = self._journal.now()
            took = (ended_at - now).total_seconds()
            return EvidenceCollected(at=ended_at, note=f"no evidence was collected: {e}", seconds=took)
        return EvidenceCollected(
            at=self._journal.now(),
            note=manifest.summary(),
            location=manifest.location,
            files=len(manifest.files),
            bytes=manifest.bytes,
            missing=len(manifest.missing),
            seconds=manifest.seconds,
        )

    async def collect_next_request(self, worker: str, guard: Callable[[], None]) -> Literal["nothing", "done", "later"]:
        """Collects what a policy requested. Returns `later` if storing failed and is to be retried."""
        row = await self._journal.transaction(evidence.claim, worker)
        if row is None:
            return "nothing"
        running = await self._journal.read(deployments.newest, row["service"], row["environment"])
        case = self._case_of(row, running)
        try:
            manifest = await self._collect(case, guard)
            say(log, "evidence collected", id=case.id, service=case.service, summary=manifest.summary())
        except (StepFailed, Unavailable) as e:
            if row["tries"] + 1 < _MAX_TRIES:
                say(log, "evidence not stored yet", level=logging.WARNING, id=case.id, reason=str(e))
                return "later"
            await self._failed(case, str(e))
        return "done"

    async def delete_expired(self, now: datetime | None = None) -> list[str]:
        """Deletes evidence after its retention and what a crash left unfinished, and returns the IDs.

        Evidence of open rollbacks stays.
        """
        now = now or self._journal.now()
        gone = []
        needed = await self._journal.read(evidence.needed)
        oldest = now - timedelta(seconds=self.settings.retention)
        store = await self.store()
        for stored in await store.stored():
            due = stored.at < (oldest if stored.complete else now - _UNFINISHED_FOR)
            if not due or stored.where.id in needed:
                continue
            try:
                if not await is_evidence(store, stored):
                    continue
                await store.remove(stored.where)
            except (StepFailed, Unavailable) as e:  # such as a foreign or busy file in it; the others are still deleted
                say(log, "expired evidence not deleted", level=logging.WARNING, id=stored.where.id, reason=str(e))
                continue
            await self._journal.transaction(evidence.mark_deleted, stored.where.id)
            gone.append(stored.where.id)
        return gone

    def _case_of(self, row: Row, running: Deployment | None) -> Case:
        service, _ = self._policy_set.service(row["service"], row["environment"])
        policy = self._policy_set.policy(row["policy"])
        alerts = _ALERTS.validate_python(json.loads(row["alerts"]))
        names = sorted({alert.name for alert in alerts})
        return Case(
            id=row["id"],
            service=row["service"],
            environment=row["environment"],
            policy=row["policy"],
            deployment_id=row["deployment_id"],
            deployed_at=running.at if running else None,
            version=running.version if running else "",
            reason=f"{', '.join(names[:3])} on {row['service']} in {row['environment']}",
            onset=_onset(alerts, row["requested_at"]),
            alerts=alerts,
            sources=service.sources if service else (),
            queries=tuple(queries_of([service] if service else [], policy, alerts)),
        )

    async def _collect(self, case: Case, guard: Callable[[], None]) -> EvidenceManifest:
        try:
            store = await self.store()
            manifest = await collect(
                case, settings=self.settings, store=store, connections=self._connections, guard=guard
            )
        except (LeaseLost, JournalUnavailable, StepFailed, Unavailable):
            raise
        except (ResponderError, Exception) as e:  # a bug here must not prevent the rollback
            log.exception("evidence item failed unexpectedly", extra={"fields": {"id": case.id}})
            raise StepFailed(f"{type(e).__name__}: {e}") from e
        counts = {"files": len(manifest.files), "missing": len(manifest.missing), "size": manifest.bytes}
        result = {"at": manifest.ended_at, "location": manifest.location, "manifest": manifest.model_dump_json()}
        await self._record(case, state="kept", **counts, **result)
        cut = any(file.cut_off for file in manifest.files)
        self._on_collected("partial" if manifest.missing or cut else "complete", manifest.seconds, manifest.bytes)
        return manifest

    async def _failed(self, case: Case, problem: str) -> None:
        say(log, "evidence not collected", level=logging.ERROR, id=case.id, service=case.service, reason=problem)
        self._on_collected("failed", self.settings.within, 0)
        await self._record(case, state="failed", at=self._journal.now(), problem=problem)

    async def _record(self, case: Case, **result: Any) -> None:
        where = case.model_dump(include={"execution", "policy", "service", "environment", "deployment_id"})
        await self._journal.transaction(evidence.record, case.id, **where, **result)


def _onset(alerts: tuple[Alert, ...], otherwise: datetime) -> datetime:
    return min([otherwise, *(alert.starts_at for alert in alerts)])
