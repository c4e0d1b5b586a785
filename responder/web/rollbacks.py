"""Requests rollbacks, and shows what an alert would lead to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import Field

from responder.backends.alertmanager.alerts import AlertGroup
from responder.backends.alertmanager.client import Alertmanager
from responder.backends.alertmanager.webhook import read_body
from responder.errors import Invalid, Unavailable
from responder.journal import decisions
from responder.operations.explain import Explained, explain_alerts, explain_with_plan
from responder.operations.permitted import permits
from responder.operations.request import requested_rollback
from responder.operations.respond import respond
from responder.web.access.access import who_asks
from responder.web.access.permission import demand, permitted, service_of
from responder.web.http.bodies import body_of
from responder.web.http.requests import ApiRequest, answer, limit, read, since
from responder.web.http.routes import Route, get, post
from responder.web.process import Process, ProcessHandlers
from responder.web.receiver import Receiver


class _Rollback(ApiRequest):
    service: str
    environment: str | None = None
    version: str | None = None
    strategy: str | None = None
    reason: str = Field(min_length=1, max_length=1000)
    dry_run: bool = False
    also: tuple[str, ...] = Field(default=(), max_length=100)  # other services of the environment, same rollback


class Rollbacks(ProcessHandlers):
    """Rollbacks by hand, dry runs, previews and decisions."""

    def __init__(self, process: Process, receiver: Receiver) -> None:
        super().__init__(process)
        self._receiver = receiver

    def routes(self) -> Iterable[Route]:
        return (
            get("/api/v1/preview", "read", self.preview),
            post("/api/v1/rollbacks", "operate", self.rollback),
            post("/api/v1/explain", "read", self.explain),
            get("/api/v1/decisions", "read", self.decisions),
        )

    async def preview(self, request: web.Request) -> web.Response:
        """`GET /api/v1/preview?alertname=…&service=…`: what an alert with these labels would lead to.

        For a link in the annotations of an alert: it shows the plan, or the guards that would deny it.
        """
        labels = {name: value for name, value in request.query.items() if value}
        if not labels:
            raise Invalid("needs the labels of an alert, such as ?alertname=ServiceFailing&service=backend", "query")
        demand(request, labels.get("service"), labels.get("environment"))
        now = self._journal.now()
        group = read_body(json.dumps([{"labels": labels}]).encode(), now)
        for refused in group.refused:
            raise Invalid(refused.reason, refused.where.removeprefix("[0].labels").lstrip(".") or "query")
        try:
            alertmanager = await self._connections().to(Alertmanager)
            firing = tuple(alert.as_alert(now) for alert in await alertmanager.alerts(labels))
        except Unavailable:
            firing = ()  # the guards report it
        alerts = tuple(alert for alert in firing if permits(permitted(request), alert)) or group.alerts
        return answer(await self._explain(request, AlertGroup(alerts=alerts), now))

    async def explain(self, request: web.Request) -> web.Response:
        """`POST /api/v1/explain`: the decision and the plan for a webhook body. Nothing is recorded or started."""
        now = self._journal.now()
        return answer(await self._explain(request, read_body(await body_of(request), now), now))

    async def _explain(self, request: web.Request, group: AlertGroup, now: datetime) -> dict[str, Any]:
        explained = await explain_alerts(
            group,
            permitted(request),
            now,
            policy_set=self._policy_set(),
            journal=self._journal,
            connections=self._connections(),
        )
        return {
            "incidents": [incident.payload() for incident in explained.incidents],
            "unmatched": [alert.labels for alert in explained.unmatched],
            "notify_only": [
                {"policy": policy.name, "notify": policy.notify, "alerts": [alert.labels for alert in alerts]}
                for policy, alerts in explained.notify_only
            ],
            "resolved": sum(alert.status == "resolved" for alert in explained.alerts),
            "refused": [alert.model_dump(include={"where", "reason", "labels"}) for alert in group.refused],
        }

    async def rollback(self, request: web.Request) -> web.Response:
        """`POST /api/v1/rollbacks`: a rollback by hand, or with `dry_run` its plan."""
        body = await read(request, _Rollback)
        policy_set, connections = self._policy_set(), self._connections()
        service = service_of(request, policy_set, body.service, body.environment)
        for other in body.also if permitted(request).limited else ():
            service_of(request, policy_set, other, service.environment)
        incident = requested_rollback(
            service,
            policy_set,
            by=who_asks(request, body.model_dump()),
            at=self._journal.now(),
            **body.model_dump(include={"reason", "version", "strategy", "also"}),
        )
        if body.dry_run:
            (explained,) = await explain_with_plan(
                [incident], policy_set=policy_set, journal=self._journal, connections=connections
            )
            return answer(explained.payload())
        (decided,) = await respond(
            [incident],
            policy_set=policy_set,
            journal=self._journal,
            connections=connections,
            claimer=self._worker.claimer,
        )
        self._receiver.begin([decided])
        return answer(Explained(decided).payload(), status=202 if decided.execution else 409)

    async def decisions(self, request: web.Request) -> web.Response:
        """`GET /api/v1/decisions[?service=&since=&limit=]`: decisions with their guard results, newest first."""
        service = request.query.get("service")
        demand(request, service, None)
        found = await self._journal.read(
            decisions.find, service=service, since=since(request), most=limit(request), permitted=permitted(request)
        )
        return answer({"decisions": [{**row, "body": json.loads(row["body"])} for row in found]})
