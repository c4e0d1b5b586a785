"""Current state: for people, for Prometheus, and for health probes."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple, get_args

from aiohttp import web
from prometheus_client.exposition import choose_encoder, gzip_accepted

from responder.config.permitted import EVERYTHING, Permitted
from responder.decisions.policies import Policy
from responder.decisions.policy_set import PolicySet
from responder.errors import Invalid, JournalUnavailable
from responder.journal import Database, Row, Transaction, executions
from responder.journal.decisions import kill_switch
from responder.journal.deployments import Deployment
from responder.journal.outbox import Undelivered
from responder.reports.inspection import covers
from responder.rollback.execution import State as ExecutionState
from responder.runtime.journal_metrics import JournalMetrics, JournalSnapshot, take_snapshot
from responder.runtime.journal_state import JournalState
from responder.runtime.metrics import Metrics
from responder.runtime.worker import Worker
from responder.services.pins import pins_of
from responder.services.service import Service
from responder.web.access.permission import demand_unlimited, narrowed, permitted
from responder.web.http.routes import Handlers, Route, get
from responder.web.reports import Reports, scope, services_of

_FAST = 1
"""The level of compression. A higher one takes longer, and saves little more."""

_HEALTH_WITHIN = 3.0
"""Seconds that `health=now` waits for checks."""

_SHOWN = ("id", "service", "environment", "state", "from_version", "to_version", "reason", "accepted_at", "plan_hash")


class Status(Handlers):
    """`/api/v1/status`, `/metrics`, `/-/healthy` and `/-/ready`."""

    def __init__(
        self,
        journal: Database,
        policy_set: Callable[[], PolicySet],
        worker: Worker,
        metrics: Metrics,
        reports: Reports,
        state: JournalState,
        channels: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._journal, self._policy_set, self._worker, self._metrics = journal, policy_set, worker, metrics
        self._reports, self._state, self._channels = reports, state, channels

    def routes(self) -> Iterable[Route]:
        return (
            get("/api/v1/status", "read", self.status),
            get("/metrics", "read", self.metrics, any_host=True),
            get("/-/healthy", None, self.healthy, any_host=True),
            get("/-/ready", None, self.ready, any_host=True),
        )

    async def healthy(self, request: web.Request) -> web.Response:
        """`GET /-/healthy`: 200 while the process runs. A restart does not repair a broken journal."""
        return web.Response(text="healthy\n")

    async def ready(self, request: web.Request) -> web.Response:
        """`GET /-/ready`: the journal answers, and this process has a lease."""
        try:
            await self._journal.read(kill_switch)
        except JournalUnavailable as e:
            return web.Response(text=f"{e}\n", status=503)
        if not self._worker.has_lease:
            return web.Response(text="no lease yet\n", status=503)
        return web.Response(text="ready\n")

    async def metrics(self, request: web.Request) -> web.Response:
        """`GET /metrics`: from memory, so that it answers however busy the journal is."""
        demand_unlimited(request, "/metrics")
        journal = JournalMetrics(
            self._state.snapshot,
            self._policy_set(),
            disarmed=self._worker.disarmed,
            read_in=self._state.read_in,
            age=self._state.age,
            channels=self._channels(),
            skew=(datetime.now(UTC) - self._journal.now()).total_seconds(),
        )
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        of_replica = chain(self._metrics.registry.collect(), journal.of_replica())
        body = await self._state.exposition(encode, content_type, of_replica)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if gzip_accepted(request.headers.get("Accept-Encoding", "")):
            headers["Content-Encoding"] = "gzip"
            body = await asyncio.to_thread(gzip.compress, body, _FAST, mtime=0)
        return web.Response(body=body, headers=headers)

    async def status(self, request: web.Request) -> web.Response:
        """`GET /api/v1/status[?service=&environment=&health=now]`: armed or not, open rollbacks, services and policies.

        Reads only the journal; `health=now` also evaluates the checks.
        """
        policy_set, requested, allowed = narrowed(request, self._policy_set()), scope(request), permitted(request)
        services = services_of(policy_set, *requested)
        if request.query.get("health", "last") not in ("now", "last"):
            raise Invalid("must be now or last", "health")
        silenced: dict[tuple[str, str], str] = {}
        if request.query.get("health") == "now":
            report = await self._reports.make(request, within=_HEALTH_WITHIN)
            silenced = {(service.service, service.environment): service.silenced for service in report.services}
        found = await self._journal.read(read_status, policy_set, self._journal.now(), services, requested, allowed)
        snapshot, running = found.snapshot, {(d.service, d.environment): d for d in found.snapshot.running}
        stopped = snapshot.stopped or self._worker.disarmed
        shown = {(service.name, service.environment) for service in services}
        everything = requested == (None, None) and not allowed.limited
        rows = [
            row
            for row in snapshot.open_executions
            if everything
            or ((row["service"], row["environment"]) in shown and (found.known is None or row["id"] in found.known))
        ]
        service_rows = [
            {
                **_service(service, running.get((service.name, service.environment)), found.last),
                "silenced": silenced.get((service.name, service.environment)) or None,
                "pinned": found.pinned.get((service.name, service.environment), []),
            }
            for service in services
        ]
        policies = [
            p for p in policy_set.policies if everything or any(covers(p, service.name) for service in services)
        ]
        body = {
            "armed": not stopped,
            "stopped": stopped or None,
            "active": _of(rows, "accepted", "running", "reverting"),
            "waiting_for_approval": _of(rows, "awaiting_approval"),
            "stuck": _of(rows, "stuck"),
            "rollbacks": found.totals,
            "services": service_rows,
            "policies": [_policy(p, found.observed.get(p.name)) for p in policies],
            "notifications": [] if allowed.limited else _notifications(snapshot, self._channels()),
            "at": self._journal.now().isoformat(),
        }
        return web.json_response({**body, **self._summary(body, policies, request)})

    def _summary(self, body: dict[str, Any], policies: Sequence[Policy], request: web.Request) -> dict[str, Any]:
        """A short summary. A value is null if it is unknown or differs between services."""
        services = body["services"]
        environments = {service["environment"] for service in services}
        health, at = self._reports.last(request)
        return {
            "integration_running": self._worker.has_lease,
            "deployment_id": services[0]["deployment_id"] if len(services) == 1 else None,
            "environment": environments.pop() if len(environments) == 1 else None,
            "health_status": health,
            "active_rollbacks": len(body["active"]),
            "total_rollbacks": sum(body["rollbacks"].values()),
            "auto_rollback_enabled": body["armed"] and any(p.mode == "auto" and not p.force for p in policies),
            "last_report_time": at.isoformat() if at else None,
        }


class StatusReads(NamedTuple):
    """What the journal knows for the status, all at the same time."""

    snapshot: JournalSnapshot
    totals: dict[str, int]
    last: dict[tuple[str, str], Row]
    observed: dict[str, Row]
    pinned: dict[tuple[str, str], list[str]]
    known: set[str] | None  # the permitted open executions; None: all


async def read_status(
    tx: Transaction,
    policy_set: PolicySet,
    now: datetime,
    services: Sequence[Service],
    requested: tuple[str | None, str | None] = (None, None),
    allowed: Permitted = EVERYTHING,
) -> StatusReads:
    """Reads it in one transaction."""
    snapshot = await take_snapshot(tx, policy_set, now)
    shown = {(service.name, service.environment) for service in services}
    restored = [(d.service, d.environment) for d in snapshot.running if d.rolled_back_by]
    return StatusReads(
        snapshot,
        await _totals(tx, *requested, allowed),
        await _last_rollbacks(tx, services),
        {row["policy"]: row for row in await tx.all("observed")},
        await _pins(tx, [key for key in restored if key in shown]),
        await _open_ids(tx, allowed) if allowed.limited else None,
    )


def _service(service: Service, deployed: Deployment | None, last: dict[tuple[str, str], Row]) -> dict[str, Any]:
    return {
        "service": service.name,
        "environment": service.environment,
        "strategy": service.rollback.strategy,
        "version": deployed.version if deployed else None,
        "status": deployed.status if deployed else None,
        "deployed_at": deployed.at.isoformat() if deployed else None,
        "deployment_id": deployed.id if deployed else None,
        "rolled_back_by": deployed.rolled_back_by if deployed else None,
        "last_rollback": _plain(last.get((service.name, service.environment))),
    }


def _of(rows: Sequence[Row], *states: str) -> list[Any]:
    return [_plain({name: row[name] for name in _SHOWN}) for row in rows if row["state"] in states]


def _plain(row: Row | None) -> Any:
    return json.loads(json.dumps(row, default=lambda value: value.isoformat()))


async def _last_rollbacks(tx: Transaction, services: Sequence[Service]) -> dict[tuple[str, str], Row]:
    found: dict[tuple[str, str], Row] = {}
    for service in services:
        if row := await tx.first("last_ended", service=service.name, environment=service.environment):
            summary = {name: row[name] for name in ("id", "from_version", "to_version", "outcome", "ended_at")}
            found[service.name, service.environment] = summary
    return found


async def _pins(tx: Transaction, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    """What keeps each service at the version of its rollback."""
    return {key: (await pins_of(tx, *key)).active for key in keys}


def _notifications(snapshot: JournalSnapshot, channels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every channel that is configured or has undelivered notifications."""
    known = {backlog.channel: backlog for backlog in snapshot.undelivered}
    rows = []
    for name in sorted({*channels, *known}):
        backlog = known.get(name, Undelivered(name, 0, None, 0, "", None))
        facts = {**backlog._asdict(), "configured": name in channels}
        rows.append({k: v.isoformat() if isinstance(v, datetime) else v for k, v in facts.items()})
    return rows


async def _open_ids(tx: Transaction, allowed: Permitted) -> set[str]:
    """The permitted open executions."""
    states = [state for state in get_args(ExecutionState) if state != "closed"]
    found = [row for state in states for row in await executions.find(tx, state=state, most=1000, permitted=allowed)]
    return {row["id"] for row in found}


async def _totals(tx: Transaction, service: str | None, environment: str | None, allowed: Permitted) -> dict[str, int]:
    services: list[str | None] = [service] if service else [*sorted(allowed.services or ())] or [None]
    environments: list[str | None] = [environment] if environment else [*sorted(allowed.environments or ())] or [None]
    totals: Counter[str] = Counter()
    for name in services:
        for environment_name in environments:
            for row in await tx.all("count_by_outcome", service=name, environment=environment_name):
                totals[row["outcome"]] += row["n"]
    return dict(totals)


def _policy(policy: Policy, observed: Row | None) -> dict[str, Any]:
    """A policy, and how often it would have acted in observe mode."""
    summary = {"name": policy.name, "mode": policy.manner, "would_have_acted": observed["n"] if observed else 0}
    return {**summary, "last_at": observed["last_at"].isoformat() if observed else None}
