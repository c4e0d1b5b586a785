"""What people ask and say: rollbacks by hand, executions and how they are steered, decisions, previews."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar, get_args

from aiohttp import web
from pydantic import BaseModel, Field

from responder.backends.alertmanager.alerts import AlertGroup, read_body
from responder.backends.alertmanager.client import Alertmanager
from responder.backends.connections import Connections
from responder.decisions import alert_times
from responder.decisions.evaluation import Refusal
from responder.decisions.incidents import Incident, match_alerts, only_told
from responder.decisions.policies import BY_HAND
from responder.decisions.policy_set import PolicySet
from responder.errors import Conflict, Invalid, StepFailed, Unavailable
from responder.journal import Database, Transaction, decisions, executions
from responder.operations.approving import approve, held_by
from responder.operations.planning import plan_rollback
from responder.operations.respond import Decided, explain, respond
from responder.operations.stopping import STOPPABLE, effect_of_stop
from responder.rollback.events import Closed, Event, Outcome
from responder.rollback.execution import Execution, State, fold
from responder.rollback.gateway import Gateway
from responder.runtime.worker import Worker
from responder.services import rollbacks
from responder.web.access.access import WHO, who_asks
from responder.web.access.permission import (
    demand,
    demand_execution,
    demand_unlimited,
    permits,
    permitted,
    service_of,
    sort_out,
)
from responder.web.http.bodies import body_of
from responder.web.http.requests import ApiRequest, answer, limit, read, since
from responder.web.http.routes import EXECUTION, Handlers, Route, get, post
from responder.web.receiver import Receiver

M = TypeVar("M", bound=BaseModel)


class _Rollback(ApiRequest):
    service: str
    environment: str | None = None
    version: str | None = None
    strategy: str | None = None
    reason: str = Field(min_length=1, max_length=1000)
    dry_run: bool = False
    also: tuple[str, ...] = Field(default=(), max_length=100)  # other services of the environment, in the same rollback


class _Stop(ApiRequest):
    reason: str = Field(default="", max_length=1000)


class _Close(ApiRequest):
    outcome: Outcome = "failed"
    reason: str = Field(min_length=1, max_length=1000)


class _Approve(ApiRequest):
    plan_hash: str
    although_resolved: bool = False  # the trouble is not visible any more, and whoever approves knows


class Api(Handlers):
    """The handlers, each a few lines over the journal."""

    def __init__(
        self,
        journal: Database,
        policy_set: Callable[[], PolicySet],
        connections: Callable[[], Connections],
        worker: Worker,
        receiver: Receiver,
        approve_link: Callable[[Execution], str | None],
    ) -> None:
        self._journal, self._mandate, self._connections = journal, policy_set, connections
        self._worker, self._receiver, self._approve_link = worker, receiver, approve_link

    def routes(self) -> Iterable[Route]:
        """As Page.places."""
        return (
            get("/api/v1/preview", "read", self.preview),
            post("/api/v1/rollbacks", "operate", self.rollback),
            post("/api/v1/explain", "read", self.explain),
            get("/api/v1/executions", "read", self.executions),
            get(EXECUTION, "read", self.execution),
            post(f"{EXECUTION}/approve", "approve", self.approve),
            post(f"{EXECUTION}/stop", "operate", self.stop),
            post(f"{EXECUTION}/close", "operate", self.close),
            get("/api/v1/decisions", "read", self.decisions),
        )

    async def preview(self, request: web.Request) -> web.Response:
        """`GET /api/v1/preview?alertname=…&service=…`: what an alert with these labels would lead to, without acting.

        A link to it belongs into the annotations of an alert: what would be done, and which guards would refuse.
        """
        labels = {name: value for name, value in request.query.items() if value}
        if not labels:
            raise Invalid("needs the labels of an alert, as ?alertname=ServiceFailing&service=backend", "query")
        demand(request, labels.get("service"), labels.get("environment"))
        now = self._journal.now()
        group = read_body(json.dumps([{"labels": labels}]).encode(), now)
        for refused in group.refused:
            raise Invalid(refused.reason, refused.where.removeprefix("[0].labels").lstrip(".") or "query")
        try:
            alertmanager = await self._connections().to(Alertmanager)
            found = tuple(alert.as_alert(now) for alert in await alertmanager.alerts(labels))
        except Unavailable:
            found = ()  # the guards will say so
        alerts = tuple(alert for alert in found if permits(request[WHO], alert)) or group.alerts
        return answer(await self._explain(request, AlertGroup(alerts=alerts), now))

    async def rollback(self, request: web.Request) -> web.Response:
        """`POST /api/v1/rollbacks`: by hand. It passes what docs/reference/guards.md says that a person passes."""
        body = await read(request, _Rollback)
        policy_set = self._mandate()
        service = service_of(request, policy_set, body.service, body.environment)
        for other in body.also if permitted(request).limited else ():
            service_of(request, policy_set, other, service.environment)
        incident = Incident(
            policy=next((p for p in policy_set.policies if _covers(p.roll_back, service.name)), BY_HAND),
            service=service.name,
            environment=service.environment,
            received_at=self._journal.now(),
            requested_by=who_asks(request, body.model_dump()),
            reason=body.reason,
            forced=True,
            version=body.version,
            strategy=body.strategy,
            together=tuple(dict.fromkeys((service.name, *body.also))) if body.also else (),
        )
        journal, connections = self._journal, self._connections()
        if body.dry_run:
            decided = (await explain([incident], policy_set=policy_set, journal=journal, connections=connections))[0]
            return answer(await self._explained(decided))
        claimer = self._worker.claimer
        decided = (
            await respond([incident], policy_set=policy_set, journal=journal, connections=connections, claimer=claimer)
        )[0]
        self._receiver.begin([decided])
        return answer(_summary(decided), status=202 if decided.execution else 409)

    async def explain(self, request: web.Request) -> web.Response:
        """`POST /api/v1/explain`: an alert body in; policy, guards and plan out, without acting."""
        now = self._journal.now()
        return answer(await self._explain(request, read_body(await body_of(request), now), now))

    async def _explain(self, request: web.Request, group: AlertGroup, now: datetime) -> dict[str, Any]:
        policy_set = self._mandate()
        alerts = await self._journal.read(alert_times.known, group.alerts, now)
        incidents, unwanted = match_alerts(alerts, policy_set.policies, now, sender="explain")
        incidents, _ = sort_out(request[WHO], incidents, policy_set)
        decided = await explain(
            incidents, policy_set=policy_set, journal=self._journal, connections=self._connections()
        )
        return {
            "incidents": [await self._explained(result) for result in decided],
            "unmatched": [alert.labels for alert in unwanted],
            "only_told": [
                {"policy": policy.name, "notify": policy.notify, "alerts": [alert.labels for alert in found]}
                for policy, found in only_told(alerts, policy_set.policies)
            ],
            "resolved": sum(alert.status == "resolved" for alert in alerts),
            "refused": [alert.model_dump(include={"where", "reason", "labels"}) for alert in group.refused],
        }

    async def _explained(self, decided: Decided) -> dict[str, Any]:
        summary, policy = _summary(decided), decided.incident.policy
        if decided.incident.action != "roll_back":
            return summary
        strategies = (decided.incident.strategy, *(None for _ in decided.also))
        every = zip((decided.facts, *decided.also), strategies, strict=True)
        versions = [facts.version_change(strategy) for facts, strategy in every]
        if None in versions:
            return summary
        try:
            plan = await plan_rollback(
                [version for version in versions if version],
                policy=policy,
                policy_set=self._mandate(),
                alerts=() if decided.incident.forced else decided.incident.alerts,
                journal=self._journal,
                gateway=Gateway(self._connections()),
            )
        except StepFailed as failure:
            return {**summary, "no_plan": str(failure)}
        return {
            **summary,
            "plan": {**plan.model_dump(mode="json"), "hash": plan.hash, "steps_told": [str(s) for s in plan.steps]},
        }

    async def executions(self, request: web.Request) -> web.Response:
        """`GET /api/v1/executions[?service=&state=&since=&limit=]`, newest first."""
        query = request.query
        if query.get("state", "closed") not in get_args(State):
            raise Invalid(f"must be one of {', '.join(get_args(State))}", "state")
        demand(request, query.get("service"), None)
        found = await self._journal.read(
            executions.find,
            service=query.get("service"),
            state=query.get("state"),
            since=since(request),
            most=limit(request),
            permitted=permitted(request),
        )
        return answer({"executions": found})

    async def execution(self, request: web.Request) -> web.Response:
        """`GET /api/v1/executions/{id}`: its row, its plan and all its events."""
        execution_id = request.match_info["id"]

        async def find(tx: Transaction) -> dict[str, Any]:
            await demand_execution(tx, request, execution_id)
            events = await executions.events_of(tx, execution_id)
            row = await tx.first("execution", id=execution_id)
            folded = fold(execution_id, events)
            link = self._approve_link(folded) if "approve" in request[WHO].scopes else None
            body = {**(row or {}), "events": [event.model_dump(mode="json") for event in events]}
            body["effect_of_stop"] = effect_of_stop(folded) if folded.state in STOPPABLE else ""
            body["messages"] = await tx.all("messages_of", subject=execution_id)
            return {**body, "approve_url": link} if link else body

        return answer(await self._journal.read(find))

    async def approve(self, request: web.Request) -> web.Response:
        """`POST /api/v1/executions/{id}/approve`: for exactly the plan that the hash names."""
        body = await read(request, _Approve)
        by = who_asks(request, body.model_dump())
        id_, although_resolved = request.match_info["id"], body.although_resolved
        await self._journal.read(demand_execution, request, id_)
        return answer(await self.approve_plan(id_, body.plan_hash, by, although_resolved=although_resolved))

    async def approve_plan(
        self, execution_id: str, plan_hash: str, by: str, *, although_resolved: bool = False
    ) -> dict[str, Any]:
        """As `approve` of operations."""
        approved = await approve(
            execution_id,
            plan_hash,
            by,
            although_resolved=although_resolved,
            policy_set=self._mandate(),
            journal=self._journal,
            connections=self._connections(),
            now=self._journal.now(),
        )
        return self._heard(*approved)

    async def held_by(self, execution: Execution) -> Refusal | None:
        """As `held_by` of operations."""
        policy_set, connections = self._mandate(), self._connections()
        now = self._journal.now()
        return await held_by(execution, policy_set=policy_set, journal=self._journal, connections=connections, now=now)

    async def stop(self, request: web.Request) -> web.Response:
        """`POST /api/v1/executions/{id}/stop`, at the next safe point; `{id}` `all` throws the kill switch."""
        body = await read(request, _Stop)
        by, execution_id = who_asks(request, body.model_dump()), request.match_info["id"]
        reason = body.reason or "no reason was given"
        if execution_id == "all":
            demand_unlimited(request, "stopping all automation")
            await self._journal.transaction(decisions.set_kill_switch, by, reason, self._journal.now())
            return answer({"stopped": "all", "by": by, "reason": reason}, status=202)
        await self._journal.read(demand_execution, request, execution_id)
        execution = await self._journal.read(executions.load, execution_id)
        effect = effect_of_stop(execution)
        await self._journal.transaction(executions.request_stop, execution_id, by, reason)
        return answer({"stopped": execution_id, "by": by, "reason": reason, "effect": effect}, status=202)

    async def close(self, request: web.Request) -> web.Response:
        """`POST /api/v1/executions/{id}/close`: a human has looked at a stuck one; `all` releases the kill switch."""
        body = await read(request, _Close)
        by, execution_id, now = who_asks(request, body.model_dump()), request.match_info["id"], self._journal.now()
        if execution_id == "all":
            demand_unlimited(request, "releasing the kill switch")
            if not await self._journal.transaction(decisions.release_kill_switch):
                raise Conflict("the kill switch is not thrown")
            return answer({"closed": "all", "by": by})
        await self._journal.read(demand_execution, request, execution_id)

        async def act(tx: Transaction) -> tuple[Execution, Event]:
            execution = await executions.load(tx, execution_id)
            if execution.state != "stuck":
                raise Conflict(f"execution {execution.id} is {execution.state}: only a stuck one is closed by hand")
            event = Closed(at=now, outcome=body.outcome, by=by, reason=f"{body.reason} (was: {execution.reason})")
            return await rollbacks.append(tx, execution, [event], None), event

        return answer(self._heard(*await self._journal.transaction(act)))

    def _heard(self, execution: Execution, event: Event) -> dict[str, Any]:
        """What a person did is counted and logged like what a worker did."""
        self._worker.publish(execution, (event,))
        return execution.model_dump(mode="json", include={"id", "seq", "state", "outcome", "reason"})

    async def decisions(self, request: web.Request) -> web.Response:
        """`GET /api/v1/decisions[?service=&since=&limit=]`: why it acted and why not, newest first."""
        service = request.query.get("service")
        demand(request, service, None)
        found = await self._journal.read(
            decisions.find, service=service, since=since(request), most=limit(request), permitted=permitted(request)
        )
        return answer({"decisions": [{**row, "body": json.loads(row["body"])} for row in found]})


def _covers(roll_back: Any, service: str) -> bool:
    return roll_back is not None and (not isinstance(roll_back, tuple) or service in roll_back)


def _summary(decided: Decided) -> dict[str, Any]:
    guard_results = [result.model_dump() for result in decided.decision.guard_results]
    return {**decided.payload(), "guard_results": guard_results}
