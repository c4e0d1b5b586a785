"""What pipelines and people tell of versions: where they were deployed, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import uuid4

from aiohttp import web
from pydantic import AfterValidator, Field

from responder.alerts import Timestamp
from responder.errors import Invalid, Unknown
from responder.journal import Database, Row, Transaction, deployments
from responder.journal.deployments import Deployment, Status
from responder.policies import Mandate
from responder.services import Name
from responder.versions import Range
from responder.web.access import who_asks
from responder.web.asked import Asked, answer, limit, read


def _version(text: str) -> str:
    # It may become the name of a directory, and it is shown in terminals.
    if text in (".", "..") or not text.isprintable() or any(c.isspace() or c == "/" for c in text):
        raise ValueError("a version is one printable word without slashes")
    return text


_SKEW = timedelta(minutes=5)


class _Deployed(Asked):
    id: str | None = Field(default=None, min_length=1, max_length=200)
    service: str
    environment: str | None = None
    version: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_version)]
    artifact: str = Field(default="", max_length=1000)
    at: Timestamp | None = None
    status: Status | None = None
    requires: dict[Name, Range] = Field(default_factory=dict, max_length=100)


class _Mark(Asked):
    environment: str | None = None
    status: Status | None = None
    no_rollback: str | None = Field(default=None, max_length=1000)  # why it must stay; empty lifts it
    reason: str = Field(default="", max_length=1000)


def _not_in_the_future(told: datetime | None) -> datetime:
    """A pipeline's clock may be a little ahead of ours: trouble would seem to have begun before the deployment."""
    now = datetime.now(UTC)
    if told is None or now < told <= now + _SKEW:
        return now
    if told > now:
        raise Invalid(f"is {told - now} in the future: whose clock is wrong?", "at")
    return told


class Registry:
    """Deployments and versions."""

    def __init__(self, journal: Database, mandate: Callable[[], Mandate]) -> None:
        self._journal, self._mandate = journal, mandate

    async def deployed(self, request: web.Request) -> web.Response:
        """`POST /api/v1/deployments`: a version was put into place."""
        asked = await read(request, _Deployed)
        service, problem = self._mandate().service(asked.service, asked.environment or "")
        if service is None:
            raise Unknown(problem)
        deployment = Deployment(
            id=asked.id or f"{asked.version}-{uuid4().hex[:8]}",
            service=service.name,
            environment=service.environment,
            version=asked.version,
            artifact=asked.artifact,
            at=_not_in_the_future(asked.at),
            recorded_by=who_asks(request, asked.model_dump()),
        )

        async def act(tx: Transaction) -> bool:
            await deployments.require(tx, deployment, asked.requires)
            return await deployments.record(tx, deployment, asked.status)

        new = await self._journal.transaction(act)
        if not new:  # what was told first stands
            deployment = await self._journal.read(deployments.get, deployment.id)
        return answer({"deployment": deployment.model_dump(exclude={"status"}), "new": new}, status=201 if new else 200)

    async def deployments(self, request: web.Request) -> web.Response:
        """`GET /api/v1/deployments[?service=&environment=&limit=]`, newest first."""
        query = request.query
        found = await self._journal.read(
            deployments.find, query.get("service"), query.get("environment"), limit(request)
        )
        return answer({"deployments": found})

    async def versions(self, request: web.Request) -> web.Response:
        """`GET /api/v1/versions/{service}[?environment=]`."""

        async def find(tx: Transaction) -> list[Row]:
            return await tx.all(
                "versions_of_service",
                service=request.match_info["service"],
                environment=request.query.get("environment"),
                most=limit(request),
            )

        found, name = await self._journal.read(find), request.match_info["service"]
        if not found and all(service.name != name for service in self._mandate().services):
            raise Unknown(f"no service {name!r} is configured, and no version of it was ever told")
        return answer({"versions": found})

    async def mark(self, request: web.Request) -> web.Response:
        """`POST /api/v1/versions/{service}/{version}`: what a person knows of a version."""
        asked = await read(request, _Mark)
        service, problem = self._mandate().service(request.match_info["service"], asked.environment or "")
        if service is None:
            raise Unknown(problem)
        if asked.status is None and asked.no_rollback is None:
            raise Invalid("needs status or no_rollback", "body")
        by, now = who_asks(request, asked.model_dump()), datetime.now(UTC)
        where = (service.name, service.environment, request.match_info["version"])

        async def act(tx: Transaction) -> Row:
            if asked.status is not None:
                told = f"{by}: {asked.reason}" if asked.reason else f"marked by {by}"
                await deployments.mark(tx, *where, asked.status, told, now)
            if asked.no_rollback is not None:
                why = f"{asked.no_rollback} ({by})" if asked.no_rollback else ""
                await deployments.mark_no_rollback(tx, *where, why)
            row = await tx.one("version", service=where[0], environment=where[1], version=where[2])
            return row or {}

        return answer({"version": await self._journal.transaction(act)})
