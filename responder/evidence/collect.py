"""Collects the evidence of one case into a store, in parallel and within a time limit.

Reading ends after 70 % of the limit and storing after 90 %; the rest is for the manifest. The manifest names whatever
is missing by then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from foundation.durations import format_duration
from foundation.models import FrozenModel
from responder.backends.alertmanager.alerts import Alert
from responder.backends.connections import Connections
from responder.backends.registries import AnyLogSource
from responder.errors import Unavailable
from responder.evidence.collection import Collection
from responder.evidence.manifest import FORMAT, MANIFEST, EvidenceManifest, where
from responder.evidence.plots import PlotMark
from responder.evidence.series import Query
from responder.evidence.settings import EvidenceSettings
from responder.evidence.store import EvidenceStore

log = logging.getLogger("responder.evidence")


class Case(FrozenModel):
    """What to collect evidence of, and from where."""

    id: str
    execution: str | None = None  # None: only logs are collected
    service: str
    environment: str
    policy: str
    deployment_id: str
    deployed_at: datetime | None = None
    version: str = ""  # the running version
    reason: str
    onset: datetime
    alerts: tuple[Alert, ...] = ()
    sources: tuple[AnyLogSource, ...] = ()
    queries: tuple[Query, ...] = ()

    @property
    def marks(self) -> list[PlotMark]:
        deployed = [PlotMark(name=f"deployment of {self.version}", at=self.deployed_at)] if self.deployed_at else []
        return [*deployed, PlotMark(name="onset", at=self.onset)]


async def collect(
    case: Case,
    *,
    settings: EvidenceSettings,
    store: EvidenceStore,
    connections: Connections,
    guard: Callable[[], None] = lambda: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> EvidenceManifest:
    """The manifest. After a crash, the existing one if the evidence is complete already.

    Raises StepFailed and Unavailable if nothing could be stored. Errors of sources are only in the manifest. `guard`
    raises `LeaseLost` if another worker has taken over.
    """
    try:
        async with asyncio.timeout(settings.within):
            return await _collect(case, settings, store, connections, guard, now)
    except TimeoutError:
        raise Unavailable(f"evidence was not stored within {format_duration(settings.within)}") from None


async def _collect(
    case: Case,
    settings: EvidenceSettings,
    store: EvidenceStore,
    connections: Connections,
    guard: Callable[[], None],
    now: Callable[[], datetime],
) -> EvidenceManifest:
    started, began_at = asyncio.get_running_loop().time(), now()
    folder = where(case.deployment_id, case.id)
    if found := await store.get(folder, MANIFEST):
        return EvidenceManifest.model_validate_json(found)
    begun = {"format": FORMAT, "id": case.id, "service": case.service, "began_at": began_at.isoformat()}
    await store.begin(folder, json.dumps(begun).encode())

    async def put(name: str, data: bytes) -> None:
        await store.put(folder, name, data)

    since = case.onset - timedelta(seconds=settings.before)
    collection = Collection(settings, put, since, started)
    parts = [
        collection.small("alerts", "alerts", lambda: _alerts(case)),
        *(
            collection.series(n, query, case.onset, case.marks, now(), connections)
            for n, query in enumerate(case.queries, 1)
        ),
        *(collection.source(source, connections) for source in case.sources),
    ]
    working = [asyncio.ensure_future(part) for part in parts]
    await _until(working, collection.stored_by)
    manifest = EvidenceManifest(
        id=case.id,
        execution=case.execution,
        service=case.service,
        environment=case.environment,
        policy=case.policy,
        deployment_id=case.deployment_id,
        reason=case.reason,
        kept_on=socket.gethostname(),
        logs_since=since,
        began_at=began_at,
        ended_at=now(),
        location=store.location(folder),
        files=tuple(sorted(collection.files, key=lambda file: file.name)),
        missing=tuple(sorted(collection.missing(), key=lambda gap: gap.origin)),
    )
    guard()
    await store.finish(folder, manifest.model_dump_json(indent=1).encode())
    return manifest


async def _until(working: Sequence[asyncio.Future[None]], deadline: float) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            await asyncio.gather(*working)
    except TimeoutError:
        pass
    finally:
        for future in working:
            future.cancel()


async def _alerts(case: Case) -> bytes:
    return json.dumps([alert.model_dump(mode="json") for alert in case.alerts], indent=1).encode()
