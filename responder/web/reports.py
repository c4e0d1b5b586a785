"""Health reports, and the post-mortem of one rollback, as JSON, Markdown and SVG."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from aiohttp import web

from responder.config.permitted import Permitted
from responder.decisions.policy_set import PolicySet
from responder.errors import Invalid, StepFailed, Unavailable, Unknown
from responder.journal import Transaction, decisions, deployments, executions
from responder.reports import health, health_text, picture, postmortem, postmortem_text, record
from responder.reports.inspection import inspect
from responder.services.service import Service
from responder.web.access.access import error
from responder.web.access.permission import demand, demand_execution, narrowed, permitted, similar
from responder.web.http.requests import answer, since
from responder.web.http.routes import EXECUTION, Route, get
from responder.web.process import Process, ProcessHandlers

_DAY = timedelta(days=1)

_AT_ONCE = 4
"""Concurrent health reports. Each queries all services, so their number is limited."""


class Reports(ProcessHandlers):
    """`GET /api/v1/report`, and the post-mortem and the plot of one rollback."""

    def __init__(self, process: Process, mistakes: Callable[[], list[str]] = list, *, within: float = 5.0) -> None:
        super().__init__(process)
        self._mistakes, self._within = mistakes, within
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._last: dict[tuple[tuple[str | None, str | None], Permitted], tuple[health.Status, datetime]] = {}

    def routes(self) -> Iterable[Route]:
        return (
            get("/api/v1/report", "read", self.report),
            get(f"{EXECUTION}/report", "read", self.execution),
            get(f"{EXECUTION}/plot", "read", self.plot),
        )

    async def report(self, request: web.Request) -> web.Response:
        """`GET /api/v1/report[?service=&environment=&since=&format=]`."""
        markdown = _markdown(request)
        made = await self.make(request, since(request))
        if markdown:
            return web.Response(text=health_text.markdown(made), content_type="text/markdown", charset="utf-8")
        return answer(made.model_dump(mode="json"))

    async def make(
        self, request: web.Request, start: datetime | None = None, within: float | None = None
    ) -> health.Report:
        """The report for the requested and permitted services. Raises Unknown if no such service is configured."""
        requested, allowed, policy_set = scope(request), permitted(request), narrowed(request, self._policy_set())
        services = services_of(policy_set, *requested)
        async with self._turn:
            now = self._journal.now()
            facts = await inspect(
                self._journal,
                policy_set,
                services,
                self._connections(),
                now,
                start or now - _DAY,
                disarmed=self._worker.disarmed,
                within=within or self._within,
                permitted=allowed,
            )
        mistakes = [] if allowed.limited else self._mistakes()
        own = {"has_lease": self._worker.has_lease, "mistake": "; ".join(mistakes[:1])}
        report = health.make_report(facts.model_copy(update=own))
        self._last[requested, allowed] = (report.status, report.at)
        return report

    def last(self, request: web.Request) -> tuple[health.Status | None, datetime | None]:
        """Status and time of the last report that this process made for the same services."""
        return self._last.get((scope(request), permitted(request)), (None, None))

    async def execution(self, request: web.Request) -> web.Response:
        """`GET /api/v1/executions/{id}/report[?format=]`: the draft of a post-mortem."""
        markdown, execution_id = _markdown(request), request.match_info["id"]
        made = postmortem.make_postmortem(await self._journal.read(_permitted_record, request, execution_id))
        if markdown:
            text = postmortem_text.markdown(made, request.query.get("plot", "plot"))
            return web.Response(text=text, content_type="text/markdown", charset="utf-8")
        return answer(made.model_dump(mode="json"))

    async def plot(self, request: web.Request) -> web.Response:
        """`GET /api/v1/executions/{id}/plot`: the decisive series of the rollback, as SVG."""
        known = await self._journal.read(_permitted_record, request, request.match_info["id"])
        made = postmortem.make_postmortem(known)
        try:
            drawn = await picture.draw(made, self._policy_set(), self._connections(), self._journal.now())
        except (Unavailable, StepFailed) as e:
            return error(502, str(e))
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return web.Response(text=drawn, content_type="image/svg+xml", charset="utf-8", headers=headers)


def scope(request: web.Request) -> tuple[str | None, str | None]:
    """The requested service and environment. Raises Forbidden if one is not permitted."""
    requested = request.query.get("service"), request.query.get("environment")
    demand(request, *requested)
    return requested


def services_of(policy_set: PolicySet, name: str | None, environment: str | None) -> list[Service]:
    """The configured services with this name and environment (None: any). Raises Unknown if there is none."""
    found = [s for s in policy_set.services if name in (None, s.name) and environment in (None, s.environment)]
    if not found and (name or environment):
        where = f" in {environment}" if environment else ""
        missing = f"{f'no service {name!r}' if name else 'no service'} is configured{where}"
        raise Unknown(missing + similar(policy_set, name, environment))
    return found


def _markdown(request: web.Request) -> bool:
    form = request.query.get("format", "json")
    if form not in ("json", "markdown"):
        raise Invalid(f"must be json or markdown, not {form!r:.50}", "format")
    return form == "markdown"


async def _permitted_record(tx: Transaction, request: web.Request, execution_id: str) -> record.ExecutionRecord:
    await demand_execution(tx, request, execution_id)
    return await _record(tx, execution_id)


async def _record(tx: Transaction, execution_id: str) -> record.ExecutionRecord:
    events = await executions.events_of(tx, execution_id)
    accepted = (await executions.load(tx, execution_id)).accepted
    opened = await tx.all("decisions_of_execution", execution=execution_id)
    guard_results = json.loads(opened[0]["body"])["guard_results"] if opened else []
    before = [
        row
        for row in await deployments.find(tx, accepted.service, accepted.environment, 1000)
        if row["version"] == accepted.from_version and row["at"] <= accepted.at
    ]
    deployed = deployments.Deployment.model_validate(before[0]) if before else None
    start = min(at for at in (deployed and deployed.at, accepted.onset_at, accepted.received_at) if at)
    end = max(events[-1].at, accepted.at)
    nearby = [
        row
        for row in await decisions.find(tx, service=accepted.service, since=start, most=1000)
        if row["environment"] == accepted.environment and row["at"] <= end
    ]
    versions = await tx.all(
        "versions_of_service", service=accepted.service, environment=accepted.environment, most=1000
    )
    return record.ExecutionRecord.model_validate(
        {
            "id": execution_id,
            "events": events,
            "deployed": deployed,
            "guard_results": guard_results,
            "decisions": [record.ReportedDecision.model_validate(row) for row in nearby],
            "versions": [record.Version.model_validate(row) for row in versions],
        }
    )
