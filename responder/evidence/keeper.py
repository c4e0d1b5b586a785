"""Keeps evidence of each rollback before it touches anything, and of what policies ask for; and not for ever."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

from pydantic import TypeAdapter

from responder.backends.alertmanager.alerts import Alert
from responder.backends.connections import Connections
from responder.decisions.policy_set import PolicySet
from responder.errors import JournalUnavailable, LeaseLost, ResponderError, StepFailed, Unavailable
from responder.evidence.collect import Case, collect
from responder.evidence.manifest import Manifest
from responder.evidence.series import queries_of
from responder.evidence.settings import EvidenceSettings
from responder.evidence.stores import Store, is_ours, store_of
from responder.journal import Database, Row, deployments, evidence
from responder.journal.deployments import Deployment
from responder.logging import say
from responder.rollback.events import EvidenceCollected
from responder.rollback.execution import Execution

log = logging.getLogger("responder.evidence")

_ALERTS: TypeAdapter[tuple[Alert, ...]] = TypeAdapter(tuple[Alert, ...])
_TRIES = 5
_HALF_WRITTEN_FOR = timedelta(hours=1)
"""So old, what has no manifest is the rest of a crash: nothing is collected for that long."""

OnCollected = Callable[[str, float, int], None]
"""Is told of each case: outcome (`complete`, `partial`, `failed`), seconds, bytes."""


class Keeper:
    """One configuration's way to keep evidence."""

    def __init__(
        self,
        settings: EvidenceSettings,
        journal: Database,
        policy_set: PolicySet,
        connections: Connections,
        on_collected: OnCollected = lambda outcome, seconds, size: None,
    ) -> None:
        self.settings, self._journal, self._mandate, self._connections = settings, journal, policy_set, connections
        self._on_collected = on_collected

    @property
    def store(self) -> Store:
        return store_of(self.settings, self._connections)

    async def of_rollback(self, execution: Execution, guard: Callable[[], None]) -> EvidenceCollected:
        """What was kept before the first step. It raises nothing but `LeaseLost` and `JournalUnavailable`."""
        accepted, now = execution.accepted, self._journal.now()
        parts = (self._mandate.service(part.service, accepted.environment)[0] for part in accepted.parts)
        services = [service for service in parts if service]
        policy = self._mandate.policy(accepted.policy)
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
            manifest = await self._keep(case, guard)
        except (StepFailed, Unavailable) as e:
            await self._failed(case, str(e))
            return EvidenceCollected(
                at=self._journal.now(), note=f"no evidence was kept: {e}", seconds=_since(now, self._journal.now())
            )
        return EvidenceCollected(
            at=self._journal.now(),
            note=manifest.summary(),
            location=manifest.location,
            files=len(manifest.files),
            bytes=manifest.bytes,
            missing=len(manifest.missing),
            seconds=manifest.seconds,
        )

    async def next_wanted(self, worker: str, guard: Callable[[], None]) -> Literal["nothing", "done", "later"]:
        """Keeps what a policy has asked for by itself. `later`: the store did not take it; it is tried some times."""
        row = await self._journal.transaction(evidence.claim, worker)
        if row is None:
            return "nothing"
        running = await self._journal.read(deployments.newest, row["service"], row["environment"])
        case = self._case_of(row, running)
        try:
            manifest = await self._keep(case, guard)
            say(log, "evidence kept", id=case.id, service=case.service, summary=manifest.summary())
        except (StepFailed, Unavailable) as e:
            if row["tries"] + 1 < _TRIES:
                say(log, "evidence not kept yet", level=logging.WARNING, id=case.id, reason=str(e))
                return "later"
            await self._failed(case, str(e))
        return "done"

    async def clean(self, now: datetime | None = None) -> list[str]:
        """Deletes what is older than the retention, and what a crash has left half written; not what is still open."""
        now = now or self._journal.now()
        gone = []
        needed = await self._journal.read(evidence.needed)
        oldest = now - timedelta(seconds=self.settings.retention)
        for stored in await self.store.stored():
            due = stored.at < (oldest if stored.complete else now - _HALF_WRITTEN_FOR)
            if not due or stored.where.id in needed:
                continue
            try:
                if not await is_ours(self.store, stored):
                    continue
                await self.store.remove(stored.where)
            except (
                StepFailed
            ) as e:  # as where somebody has put a directory of his own there: the others go all the same
                say(log, "old evidence could not be deleted", level=logging.WARNING, id=stored.where.id, reason=str(e))
                continue
            await self._journal.transaction(evidence.mark_deleted, stored.where.id)
            gone.append(stored.where.id)
        return gone

    def _case_of(self, row: Row, running: Deployment | None) -> Case:
        service, _ = self._mandate.service(row["service"], row["environment"])
        policy = self._mandate.policy(row["policy"])
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

    async def _keep(self, case: Case, guard: Callable[[], None]) -> Manifest:
        try:
            manifest = await collect(
                case, settings=self.settings, store=self.store, connections=self._connections, guard=guard
            )
        except (LeaseLost, JournalUnavailable, StepFailed, Unavailable):
            raise
        except (ResponderError, Exception) as e:  # a bug of ours is no reason to leave a service as it is
            log.exception("evidence", extra={"fields": {"id": case.id}})
            raise StepFailed(f"{type(e).__name__}: {e}") from e
        await self._journal.transaction(
            evidence.record,
            case.id,
            execution=case.execution,
            policy=case.policy,
            service=case.service,
            environment=case.environment,
            deployment_id=case.deployment_id,
            state="kept",
            at=manifest.ended_at,
            location=manifest.location,
            files=len(manifest.files),
            missing=len(manifest.missing),
            size=manifest.bytes,
            manifest=manifest.model_dump_json(),
        )
        cut = any(file.cut_off for file in manifest.files)
        self._on_collected("partial" if manifest.missing or cut else "complete", manifest.seconds, manifest.bytes)
        return manifest

    async def _failed(self, case: Case, problem: str) -> None:
        say(log, "no evidence", level=logging.ERROR, id=case.id, service=case.service, reason=problem)
        self._on_collected("failed", self.settings.within, 0)
        await self._journal.transaction(
            evidence.record,
            case.id,
            execution=case.execution,
            policy=case.policy,
            service=case.service,
            environment=case.environment,
            deployment_id=case.deployment_id,
            state="failed",
            at=self._journal.now(),
            problem=problem,
        )


def _onset(alerts: tuple[Alert, ...], otherwise: datetime) -> datetime:
    return min([otherwise, *(alert.starts_at for alert in alerts)])


def _since(began: datetime, now: datetime) -> float:
    return (now - began).total_seconds()
