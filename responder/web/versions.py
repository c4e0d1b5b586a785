"""The version registry: versions, and marks by people."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web
from pydantic import Field

from responder.decisions.policy_set import PolicySet
from responder.errors import Invalid, Unknown
from responder.journal import Database, Row, Transaction, deployments
from responder.journal.deployments import Status
from responder.operations.versions import mark_version, version_row
from responder.web.access.access import who_asks
from responder.web.access.permission import demand, narrowed, permitted, service_of, similar
from responder.web.http.requests import (
    ApiRequest,
    answer,
    as_json,
    limit,
    must_match,
    read,
    tag_of,
    unless_known,
)
from responder.web.http.routes import Handlers, Route, get, post


class _Mark(ApiRequest):
    environment: str | None = None
    status: Status | None = None
    no_rollback: str | None = Field(default=None, max_length=1000)  # reason to deny rollbacks past it; empty removes it
    reason: str = Field(default="", max_length=1000)


class Versions(Handlers):
    """`/api/v1/versions`."""

    def __init__(self, journal: Database, policy_set: Callable[[], PolicySet]) -> None:
        self._journal, self._policy_set = journal, policy_set

    def routes(self) -> Iterable[Route]:
        return (
            get("/api/v1/versions/{service}", "read", self.versions),
            get("/api/v1/versions/{service}/{platform}", "read", self.platform),
            post("/api/v1/versions/{service}/{version}", "operate", self.mark),
        )

    async def versions(self, request: web.Request) -> web.Response:
        """`GET /api/v1/versions/{service}[?environment=&history=true]`."""
        name, environment, most = request.match_info["service"], request.query.get("environment"), limit(request)
        demand(request, name, environment)
        allowed = permitted(request).environments
        environments = [environment] if environment or allowed is None else sorted(allowed)

        async def find(tx: Transaction) -> dict[str, Any]:
            found: dict[str, list[Row]] = {"versions": []}
            for environment_name in environments:
                rows = await tx.all("versions_of_service", service=name, environment=environment_name, most=most)
                found["versions"] += [{**row, "etag": _tag(row)} for row in rows]
                history = await deployments.history(tx, name, environment_name, most) if _wants_history(request) else {}
                for key, lines in history.items():
                    found.setdefault(key, []).extend(lines)
            return found

        found = await self._journal.read(find)
        visible = narrowed(request, self._policy_set())
        if not found["versions"] and all(service.name != name for service in visible.services):
            known = similar(visible, name, None)
            raise Unknown(f"no service {name!r} is configured, and no deployment of it was reported{known}")
        return _tagged(request, found)

    async def platform(self, request: web.Request) -> web.Response:
        """`GET /api/v1/versions/{service}/{platform}[?environment=&history=true]`: its versions on one platform."""
        service = service_of(
            request, self._policy_set(), request.match_info["service"], request.query.get("environment")
        )
        name, environment, most = service.name, service.environment, limit(request)
        platform = request.match_info["platform"]

        async def find(tx: Transaction) -> dict[str, Any]:
            where = {"service": name, "environment": environment}
            on_platform = {**where, "platform": platform}
            runs = await deployments.newest(tx, **on_platform)
            if runs is None:
                known = [deployment.platform for deployment in await deployments.on_platforms(tx, **where)]
                raise Unknown(await _no_platform(tx, name, environment, platform, known))
            good = await tx.first("good_on_platform", **on_platform, running=runs.version, most=1)
            rows = await tx.all("versions_of_platform", **on_platform, most=most)
            found = {
                **on_platform,
                "runs": runs.model_dump(exclude={"service", "environment", "platform"}),
                "last_good": good["version"] if good else None,
                "versions": [{**row, "etag": _tag({**where, **row})} for row in rows],
            }
            return (
                {**found, **await deployments.history(tx, name, environment, most)}
                if _wants_history(request)
                else found
            )

        return _tagged(request, await self._journal.read(find))

    async def mark(self, request: web.Request) -> web.Response:
        """`POST /api/v1/versions/{service}/{version}`: marks a version; with If-Match only if it is unchanged."""
        body = await read(request, _Mark)
        service = service_of(request, self._policy_set(), request.match_info["service"], body.environment)
        if body.status is None and body.no_rollback is None:
            raise Invalid("needs status or no_rollback", "body")
        row = await mark_version(
            service.name,
            service.environment,
            request.match_info["version"],
            **body.model_dump(include={"status", "no_rollback", "reason"}),
            by=who_asks(request, body.model_dump()),
            journal=self._journal,
            check=lambda known: must_match(request, _tag(known)),
        )
        response = answer({"version": {**row, "etag": _tag(row)}})
        response.headers["ETag"] = f'"{_tag(row)}"'
        return response


async def _no_platform(tx: Transaction, service: str, environment: str, platform: str, known: list[str]) -> str:
    message = f"no deployment of {service} on platform {platform!r} in {environment} was reported"
    if await version_row(tx, service, environment, platform):
        return f"{message}; {platform} is one of its versions: request /api/v1/versions/{service}"
    return f"{message}; its platforms are {', '.join(known)}" if known else f"{message}; it has no platforms"


def _tag(version: Row) -> str:
    """The ETag of the marks of a version, without its deployments."""
    return tag_of("\0".join(str(version[n]) for n in ("service", "environment", "version", "revision")).encode())


def _wants_history(request: web.Request) -> bool:
    match request.query.get("history", "false"):
        case "true":
            return True
        case "false":
            return False
    raise Invalid("must be true or false", "history")


def _tagged(request: web.Request, found: dict[str, Any]) -> web.Response:
    body = as_json(found).encode()
    return unless_known(request, tag_of(body), lambda: body, "application/json", **{"Cache-Control": "no-cache"})
