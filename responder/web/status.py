"""How it is now, for people, for Prometheus, and for whoever restarts us."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from responder.errors import JournalUnavailable
from responder.journal import Database, Row, Transaction
from responder.journal.outbox import Undelivered
from responder.metrics import Metrics, Snapshot, State, take_snapshot
from responder.policies import Mandate, Policy
from responder.worker import Worker


class _Both:
    """What was counted and what the journal holds now, as one exposition."""

    def __init__(self, metrics: Metrics, state: State) -> None:
        self._parts = (metrics.registry, state)

    def collect(self) -> Iterator[Metric]:
        for part in self._parts:
            yield from part.collect()


_SHOWN = ("id", "service", "environment", "state", "from_version", "to_version", "reason", "accepted_at", "plan_hash")


class Status:
    """Reads the journal, and says so where it cannot."""

    def __init__(
        self,
        journal: Database,
        mandate: Callable[[], Mandate],
        worker: Worker,
        metrics: Metrics,
        channels: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._journal, self._mandate, self._worker, self._metrics = journal, mandate, worker, metrics
        self._channels = channels

    async def healthy(self, request: web.Request) -> web.Response:
        """`GET /-/healthy`: the process runs. A broken journal is no reason to restart it."""
        return web.Response(text="healthy\n")

    async def ready(self, request: web.Request) -> web.Response:
        """`GET /-/ready`: the journal answers and this process may act."""
        if await self._snapshot() is None:
            return web.Response(text="the journal cannot be read\n", status=503)
        if not self._worker.has_lease:
            return web.Response(text="no lease yet\n", status=503)
        return web.Response(text="ready\n")

    async def metrics(self, request: web.Request) -> web.Response:
        """`GET /metrics`."""
        mandate = self._mandate()
        disarmed, channels = self._worker.disarmed, self._channels()
        state = State(await self._snapshot(), mandate, disarmed=disarmed, channels=channels)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(_Both(self._metrics, state)), headers={"Content-Type": content_type})

    async def status(self, request: web.Request) -> web.Response:
        """`GET /api/v1/status`: armed or not and why, what is under way, and every service's versions."""
        mandate = self._mandate()
        snapshot = await self._journal.read(take_snapshot, mandate, datetime.now(UTC))
        totals = await self._journal.read(_totals)
        observed = {row["policy"]: row for row in await self._journal.read(_observed)}
        stopped = snapshot.stopped or self._worker.disarmed
        running = {(d.service, d.environment): d for d in snapshot.running}
        services = []
        for service in mandate.services:
            deployed = running.get((service.name, service.environment))
            services.append(
                {
                    "service": service.name,
                    "environment": service.environment,
                    "strategy": service.rollback.strategy,
                    "version": deployed.version if deployed else None,
                    "status": deployed.status if deployed else None,
                    "deployed_at": deployed.at.isoformat() if deployed else None,
                    "rolled_back_by": deployed.rolled_back_by if deployed else None,
                }
            )
        body = {
            "armed": not stopped,
            "stopped": stopped or None,
            "active": _of(snapshot, "accepted", "running", "turning_back"),
            "waiting_for_approval": _of(snapshot, "held"),
            "stuck": _of(snapshot, "stuck"),
            "rollbacks": totals,
            "services": services,
            "policies": [_policy(p, observed.get(p.name)) for p in mandate.policies],
            "notifications": _notifications(snapshot, self._channels()),
            "at": datetime.now(UTC).isoformat(),
        }
        return web.json_response(body)

    async def _snapshot(self) -> Snapshot | None:
        try:
            return await self._journal.read(take_snapshot, self._mandate(), datetime.now(UTC))
        except JournalUnavailable:
            return None


def _of(snapshot: Snapshot, *states: str) -> list[dict[str, Any]]:
    rows = [{name: row[name] for name in _SHOWN} for row in snapshot.open_executions if row["state"] in states]
    plain: list[dict[str, Any]] = json.loads(json.dumps(rows, default=lambda value: value.isoformat()))
    return plain


def _notifications(snapshot: Snapshot, channels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every channel that is configured, or that something is undelivered of."""
    known = {one.channel: one for one in snapshot.undelivered}
    told = []
    for name in sorted({*channels, *known}):
        one = known.get(name, Undelivered(name, 0, None, 0, "", None))
        facts = {**one._asdict(), "configured": name in channels}
        told.append({k: v.isoformat() if isinstance(v, datetime) else v for k, v in facts.items()})
    return told


async def _totals(tx: Transaction) -> dict[str, int]:
    rows = await tx.all("count_by_outcome")
    return {row["outcome"] or "open": row["n"] for row in rows}


async def _observed(tx: Transaction) -> list[Row]:
    return await tx.all("observed")


def _policy(policy: Policy, observed: Row | None) -> dict[str, Any]:
    """With what it would have done in observe mode: the evidence for letting it act."""
    told = {"name": policy.name, "mode": policy.manner, "would_have_acted": observed["n"] if observed else 0}
    return {**told, "last_at": observed["last_at"].isoformat() if observed else None}
