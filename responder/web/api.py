"""What people and pipelines ask and say: deployments, rollbacks by hand, executions, decisions, status."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, get_args
from uuid import uuid4

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from responder.alerts import Timestamp, path_of, read_body
from responder.clients import Connections
from responder.errors import Conflict, Halt, Invalid, Unknown
from responder.execution import Approved, Closed, Event, Execution, Outcome, State
from responder.journal import Database, Row, Transaction, decisions, deployments, executions
from responder.journal.deployments import Deployment, Status
from responder.policies import BY_HAND, Incident, Mandate, match_alerts
from responder.respond import Decided, explain, respond
from responder.strategies import Target
from responder.web.access import who_asks
from responder.web.receiver import Receiver
from responder.worker import Worker
from responder.world import World

M = TypeVar("M", bound=BaseModel)


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    by: str | None = Field(default=None, max_length=100)


def _version(text: str) -> str:
    # It may become the name of a directory, and it is shown in terminals.
    if text in (".", "..") or not text.isprintable() or any(c.isspace() or c == "/" for c in text):
        raise ValueError("a version is one printable word without slashes")
    return text


class _Deployed(_Asked):
    id: str | None = Field(default=None, min_length=1, max_length=200)
    service: str
    environment: str | None = None
    version: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_version)]
    artifact: str = Field(default="", max_length=1000)
    at: Timestamp | None = None
    status: Status | None = None


class _Rollback(_Asked):
    service: str
    environment: str | None = None
    version: str | None = None
    reason: str = Field(min_length=1, max_length=1000)
    dry_run: bool = False


class _Stop(_Asked):
    reason: str = Field(default="", max_length=1000)


class _Close(_Asked):
    outcome: Outcome = "failed"
    reason: str = Field(min_length=1, max_length=1000)


class _Approve(_Asked):
    plan_hash: str


class Api:
    """The handlers, each a few lines over the journal."""

    def __init__(
        self,
        journal: Database,
        mandate: Callable[[], Mandate],
        connections: Callable[[], Connections],
        worker: Worker,
        receiver: Receiver,
    ) -> None:
        self._journal, self._mandate, self._connections = journal, mandate, connections
        self._worker, self._receiver = worker, receiver

    async def deployed(self, request: web.Request) -> web.Response:
        """`POST /api/v1/deployments`: a version was put into place."""
        asked = await _read(request, _Deployed)
        service, problem = self._mandate().service(asked.service, asked.environment or "")
        if service is None:
            raise Unknown(problem)
        deployment = Deployment(
            id=asked.id or f"{asked.version}-{uuid4().hex[:8]}",
            service=service.name,
            environment=service.environment,
            version=asked.version,
            artifact=asked.artifact,
            at=asked.at or datetime.now(UTC),
            recorded_by=who_asks(request, asked.model_dump()),
        )
        new = await self._journal.transaction(deployments.record, deployment, asked.status)
        if not new:  # what was told first stands
            deployment = await self._journal.read(deployments.get, deployment.id)
        return _json({"deployment": deployment.model_dump(exclude={"status"}), "new": new}, status=201 if new else 200)

    async def deployments(self, request: web.Request) -> web.Response:
        """`GET /api/v1/deployments[?service=&environment=&limit=]`, newest first."""
        query = request.query
        found = await self._journal.read(
            deployments.find, query.get("service"), query.get("environment"), _limit(request)
        )
        return _json({"deployments": found})

    async def versions(self, request: web.Request) -> web.Response:
        """`GET /api/v1/versions/{service}[?environment=]`."""

        async def find(tx: Transaction) -> list[Row]:
            return await tx.all(
                "versions_of_service",
                service=request.match_info["service"],
                environment=request.query.get("environment"),
                most=_limit(request),
            )

        found, name = await self._journal.read(find), request.match_info["service"]
        if not found and all(service.name != name for service in self._mandate().services):
            raise Unknown(f"no service {name!r} is configured, and no version of it was ever told")
        return _json({"versions": found})

    async def rollback(self, request: web.Request) -> web.Response:
        """`POST /api/v1/rollbacks`: by hand. It passes cooldown, mode and deployed_within, and nothing else."""
        asked = await _read(request, _Rollback)
        mandate = self._mandate()
        service, problem = mandate.service(asked.service, asked.environment or "")
        if service is None:
            raise Unknown(problem)
        incident = Incident(
            policy=next((p for p in mandate.policies if _covers(p.roll_back, service.name)), BY_HAND),
            service=service.name,
            environment=service.environment,
            received_at=datetime.now(UTC),
            requested_by=who_asks(request, asked.model_dump()),
            reason=asked.reason,
            forced=True,
            version=asked.version,
        )
        journal, connections = self._journal, self._connections()
        if asked.dry_run:
            decided = (await explain([incident], mandate=mandate, journal=journal, connections=connections))[0]
            return _json(await self._explained(decided))
        claimer = self._worker.claimer
        decided = (
            await respond([incident], mandate=mandate, journal=journal, connections=connections, claimer=claimer)
        )[0]
        self._receiver.begin([decided])
        return _json(_told(decided), status=202 if decided.execution else 409)

    async def explain(self, request: web.Request) -> web.Response:
        """`POST /api/v1/explain`: an alert body in; policy, guards and plan out, without acting."""
        now = datetime.now(UTC)
        group = read_body(await request.read(), now)
        mandate = self._mandate()
        incidents, unwanted = match_alerts(group.alerts, mandate.policies, now, sender="explain")
        decided = await explain(incidents, mandate=mandate, journal=self._journal, connections=self._connections())
        return _json(
            {
                "incidents": [await self._explained(one) for one in decided],
                "unmatched": [alert.labels for alert in unwanted],
                "resolved": sum(alert.status == "resolved" for alert in group.alerts),
            }
        )

    async def _explained(self, decided: Decided) -> dict[str, Any]:
        situation, told = decided.situation, _told(decided)
        if situation.service is None or situation.running is None or situation.target is None:
            return told
        target = Target(
            service=situation.service.name,
            environment=situation.service.environment,
            from_version=situation.running.version,
            to_version=situation.target.version,
            artifact=situation.target.artifact,
        )
        verify = decided.incident.policy.verify
        try:
            plan = await situation.service.plan(
                World(self._connections()), target, verify_for=verify.bake, verify_within=verify.within
            )
        except Halt as halt:
            return {**told, "no_plan": str(halt)}
        return {
            **told,
            "plan": {**plan.model_dump(mode="json"), "hash": plan.hash, "steps_told": [str(s) for s in plan.steps]},
        }

    async def executions(self, request: web.Request) -> web.Response:
        """`GET /api/v1/executions[?service=&state=&since=&limit=]`, newest first."""
        query = request.query
        if query.get("state", "closed") not in get_args(State):
            raise Invalid(f"must be one of {', '.join(get_args(State))}", "state")
        found = await self._journal.read(
            executions.find,
            service=query.get("service"),
            state=query.get("state"),
            since=_since(request),
            most=_limit(request),
        )
        return _json({"executions": found})

    async def execution(self, request: web.Request) -> web.Response:
        """`GET /api/v1/executions/{id}`: its row, its plan and all its events."""
        execution_id = request.match_info["id"]

        async def find(tx: Transaction) -> dict[str, Any]:
            events = await executions.events_of(tx, execution_id)
            row = await tx.one("execution_row", id=execution_id)
            return {**(row or {}), "events": [event.model_dump(mode="json") for event in events]}

        return _json(await self._journal.read(find))

    async def approve(self, request: web.Request) -> web.Response:
        """`POST /api/v1/executions/{id}/approve`: for exactly the plan that the hash names."""
        asked = await _read(request, _Approve)
        by, now = who_asks(request, asked.model_dump()), datetime.now(UTC)

        async def act(tx: Transaction) -> tuple[Execution, Event]:
            execution = await executions.load(tx, request.match_info["id"])
            if execution.state != "held" or execution.plan is None:
                raise Conflict(f"execution {execution.id} is {execution.state}: nothing waits for approval")
            if execution.held_until and now >= execution.held_until:
                raise Conflict(f"the time to approve execution {execution.id} is over")
            if execution.plan.hash != asked.plan_hash:
                raise Conflict(f"the plan is {execution.plan.hash}, not {asked.plan_hash}: read it again")
            event = Approved(at=now, by=by, plan_hash=asked.plan_hash)
            return await executions.append(tx, execution, [event], None), event

        return _json(self._heard(*await self._journal.transaction(act)))

    async def stop(self, request: web.Request) -> web.Response:
        """`POST /api/v1/executions/{id}/stop`, at the next safe point; `{id}` `all` throws the kill switch."""
        asked = await _read(request, _Stop)
        by, execution_id = who_asks(request, asked.model_dump()), request.match_info["id"]
        reason = asked.reason or "no reason was given"
        if execution_id == "all":
            await self._journal.transaction(decisions.stop_all, by, reason, datetime.now(UTC))
            return _json({"stopped": "all", "by": by, "reason": reason}, status=202)
        await self._journal.transaction(executions.ask_to_stop, execution_id, by, reason)
        return _json({"stopped": execution_id, "by": by, "reason": reason}, status=202)

    async def close(self, request: web.Request) -> web.Response:
        """`POST /api/v1/executions/{id}/close`: a human has looked at a stuck one; `all` releases the kill switch."""
        asked = await _read(request, _Close)
        by, execution_id, now = who_asks(request, asked.model_dump()), request.match_info["id"], datetime.now(UTC)
        if execution_id == "all":
            if not await self._journal.transaction(decisions.resume_all):
                raise Conflict("the kill switch is not thrown")
            return _json({"closed": "all", "by": by})

        async def act(tx: Transaction) -> tuple[Execution, Event]:
            execution = await executions.load(tx, execution_id)
            if execution.state != "stuck":
                raise Conflict(f"execution {execution.id} is {execution.state}: only a stuck one is closed by hand")
            event = Closed(at=now, outcome=asked.outcome, by=by, reason=f"{asked.reason} (was: {execution.reason})")
            return await executions.append(tx, execution, [event], None), event

        return _json(self._heard(*await self._journal.transaction(act)))

    def _heard(self, execution: Execution, event: Event) -> dict[str, Any]:
        """What a person did is counted and logged like what a worker did."""
        self._worker.tell(execution, (event,))
        return execution.model_dump(mode="json", include={"id", "seq", "state", "outcome", "reason"})

    async def decisions(self, request: web.Request) -> web.Response:
        """`GET /api/v1/decisions[?service=&since=&limit=]`: why it acted and why not, newest first."""
        found = await self._journal.read(
            decisions.find, service=request.query.get("service"), since=_since(request), most=_limit(request)
        )
        return _json({"decisions": [{**row, "body": json.loads(row["body"])} for row in found]})


def _covers(roll_back: Any, service: str) -> bool:
    return not isinstance(roll_back, tuple) or service in roll_back


def _told(decided: Decided) -> dict[str, Any]:
    verdicts = [verdict.model_dump() for verdict in decided.judgement.verdicts]
    return {**decided.told(), "verdicts": verdicts}


def _json(data: Any, status: int = 200) -> web.Response:
    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else str(value)

    return web.json_response(data, status=status, dumps=lambda d: json.dumps(d, default=plain))


async def _read(request: web.Request, model: type[M]) -> M:
    try:
        return model.model_validate_json(await request.read() or b"{}")
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False)[0]
        raise Invalid(first["msg"], path_of(first["loc"]) or "body") from None


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", "100")
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= 1000:
        raise Invalid("must be a number from 1 to 1000", "limit")
    return int(text)


def _since(request: web.Request) -> datetime | None:
    text = request.query.get("since")
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Invalid("must be a time such as 2026-11-23T22:00:00Z", "since") from None
