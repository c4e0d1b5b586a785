"""`/api/v1/deployments`: reports of deployments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated
from uuid import uuid4

from aiohttp import web
from pydantic import Field, TypeAdapter, ValidationError

from responder.backends.alertmanager.alerts import Timestamp
from responder.config.versions import Range
from responder.decisions.policy_set import PolicySet
from responder.errors import Forbidden, Invalid
from responder.journal import Database, deployments
from responder.journal.deployments import Deployment, Status
from responder.operations.versions import deployment_time, report_deployment
from responder.services.pins import pins_of
from responder.services.service import Name
from responder.web.access.access import WHO, who_asks
from responder.web.access.permission import demand, permitted, service_of
from responder.web.deployments.flux import FluxEvent
from responder.web.http.requests import ApiRequest, Version, answer, limit, read
from responder.web.http.routes import Handlers, Route, get, post

_VERSION: TypeAdapter[str] = TypeAdapter(Annotated[Version, Field(min_length=1)])


class _Deployed(ApiRequest):
    id: str | None = Field(default=None, min_length=1, max_length=200)
    service: str
    environment: str | None = None
    version: Annotated[Version, Field(min_length=1)]
    platform: Name | None = None
    artifact: str = Field(default="", max_length=1000)
    provenance: str = Field(default="", max_length=1000)
    at: Timestamp | None = None
    status: Status | None = None
    requires: dict[Name, Range] = Field(default_factory=dict, max_length=100)
    if_changed: bool = False


class Deployments(Handlers):
    """`/api/v1/deployments` and `/api/v1/deployments/flux`."""

    def __init__(self, journal: Database, policy_set: Callable[[], PolicySet]) -> None:
        self._journal, self._policy_set = journal, policy_set

    def routes(self) -> Iterable[Route]:
        return (
            get("/api/v1/deployments", "read", self.deployments),
            post("/api/v1/deployments", ("deploy", "operate"), self.deployed),
            post("/api/v1/deployments/flux", ("deploy", "operate"), self.deployed_by_flux),
        )

    async def deployments(self, request: web.Request) -> web.Response:
        """`GET /api/v1/deployments[?service=&environment=&limit=]`, newest first."""
        query = request.query
        requested = query.get("service"), query.get("environment")
        demand(request, *requested)
        found = await self._journal.read(deployments.find_permitted, *requested, limit(request), permitted(request))
        return answer({"deployments": found})

    async def deployed(self, request: web.Request) -> web.Response:
        """`POST /api/v1/deployments`: reports a deployment."""
        return await self._report(request, await read(request, _Deployed))

    async def deployed_by_flux(self, request: web.Request) -> web.Response:
        """`POST /api/v1/deployments/flux`: an event of Flux. Repeated events report a version once."""
        event = await read(request, FluxEvent)
        if event.ignored:
            return answer({"ignored": event.ignored})
        try:
            version = _VERSION.validate_python(event.version)
        except ValidationError as e:
            raise Invalid(e.errors()[0]["msg"], "metadata.version") from None
        fields = {"service": event.service, "environment": event.environment, "provenance": event.provenance}
        return await self._report(request, _Deployed(**fields, version=version, at=event.timestamp, if_changed=True))

    async def _report(self, request: web.Request, body: _Deployed) -> web.Response:
        service = service_of(request, self._policy_set(), body.service, body.environment)
        if body.status not in (None, "good") and "operate" not in request[WHO].scopes:
            raise Forbidden(f"{request[WHO].name} lacks scope operate, which is required for status {body.status}")
        now = self._journal.now()
        deployment = Deployment(
            id=body.id or f"{body.version}-{uuid4().hex[:8]}",
            service=service.name,
            environment=service.environment,
            version=body.version,
            platform=body.platform or "",
            artifact=body.artifact,
            provenance=body.provenance,
            at=deployment_time(body.at, now),
            reported_at=body.at,
            recorded_by=who_asks(request, body.model_dump()),
        )
        pins = await self._journal.read(pins_of, service.name, service.environment)
        recorded, new = await report_deployment(
            deployment, body.status, body.requires, if_changed=body.if_changed, journal=self._journal
        )
        made = {"deployment": recorded.model_dump(exclude={"status"}), "new": new, "pinned": pins.active if new else []}
        return answer(made, status=201 if new else 200)
