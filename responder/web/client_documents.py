"""The signed documents that apps poll, one per platform. A document changes only with its content."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, StrictBool, TypeAdapter, ValidationError

from responder.decisions.policy_set import PolicySet
from responder.errors import Invalid, Unknown
from responder.journal import Database, Transaction, client_rules, deployments
from responder.journal.client_rules import Rules
from responder.services.client_rules import RuleChange, change_rules
from responder.services.service import Name, Service
from responder.web.access.access import who_asks
from responder.web.access.permission import service_of
from responder.web.client_settings import ClientSettings
from responder.web.http.requests import ApiRequest, Version, answer, limit, must_match, read, tag_of, unless_known
from responder.web.http.routes import Handlers, Route, get, post

_MAX_AGE = 60
_MOST_BLOCKED = 1000
_PLATFORM: TypeAdapter[str] = TypeAdapter(Name)
_GONE = ("bad", "retired")
_MOST_CANDIDATES = 50
"""Number of good versions that are searched for one that is not blocked."""


_Named = Annotated[Version, Field(min_length=1)]


class _Change(ApiRequest):
    environment: str | None = None
    min_version: Version | None = None
    block: tuple[_Named, ...] = Field(default=(), max_length=100)
    unblock: tuple[_Named, ...] = Field(default=(), max_length=100)
    flags: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.]{0,99}$")], StrictBool | None] = Field(
        default_factory=dict, max_length=100
    )
    reason: str = Field(min_length=1, max_length=1000)


class ClientDocuments(Handlers):
    """`/api/v1/clients`."""

    def __init__(
        self, journal: Database, policy_set: Callable[[], PolicySet], settings: Callable[[], ClientSettings | None]
    ) -> None:
        self._journal, self._policy_set, self._settings = journal, policy_set, settings

    def routes(self) -> Iterable[Route]:
        path = "/api/v1/clients/{service}/{platform}"
        return (
            get("/api/v1/clients/keys", "read", self.keys, self.public),
            get(path, "read", self.document, self.public),
            post(path, "operate", self.change),
            get(f"{path}/history", "read", self.history),
        )

    def public(self) -> bool:
        """Whether the documents can be read without a token."""
        settings = self._settings()
        return settings is not None and settings.public

    async def document(self, request: web.Request) -> web.Response:
        """`GET /api/v1/clients/{service}/{platform}[?environment=]`: a JWT, or 304 if unchanged."""
        service, platform = self._service(request, request.query.get("environment")), request.match_info["platform"]
        settings = self._configured()
        content = await self._journal.read(_content, service.name, service.environment, platform)
        if content is None:
            raise Unknown(f"no deployment of {service.name} on {platform} in {service.environment} was reported")
        payload = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        tag = tag_of(settings.signer.kid.encode() + payload)
        return unless_known(
            request, tag, lambda: settings.signer.sign(payload).encode(), "application/jwt", **self._headers()
        )

    async def keys(self, request: web.Request) -> web.Response:
        """`GET /api/v1/clients/keys`: the public key, as a JSON Web Key Set."""
        body = json.dumps({"keys": [self._configured().signer.jwk]}).encode()
        return unless_known(request, tag_of(body), lambda: body, "application/json", **self._headers())

    async def history(self, request: web.Request) -> web.Response:
        """`GET /api/v1/clients/{service}/{platform}/history[?environment=&limit=]`: every change, newest first."""
        where = self._where(request, request.query.get("environment"))
        most = limit(request)

        async def find(tx: Transaction) -> tuple[Rules, list[dict[str, Any]]]:
            rules = await client_rules.get(tx, *where) or Rules()
            return rules, await client_rules.history(tx, *where, most)

        rules, changes = await self._journal.read(find)
        return _as_answer(where, rules, changes=changes)

    async def change(self, request: web.Request) -> web.Response:
        """`POST /api/v1/clients/{service}/{platform}`: changes the document."""
        body = await read(request, _Change)
        where = self._where(request, body.environment)
        if both := set(body.block) & set(body.unblock):
            raise Invalid(f"{', '.join(sorted(both))} cannot be blocked and unblocked at once", "block, unblock")
        rule_change = RuleChange(**body.model_dump(include={"min_version", "block", "unblock", "flags"}))
        by, now = who_asks(request, body.model_dump()), self._journal.now()

        async def act(tx: Transaction) -> Rules:
            await client_rules.lock(tx, *where)
            before = await client_rules.get(tx, *where) or Rules()
            must_match(request, _tag(where, before))
            if len(rule_change.apply(before).blocked_versions) > _MOST_BLOCKED:
                raise Invalid(f"more than {_MOST_BLOCKED} versions would be blocked: raise min_version", "block")
            return await change_rules(tx, *where, rule_change, by=by, reason=body.reason, at=now)

        return _as_answer(where, await self._journal.transaction(act))

    def _configured(self) -> ClientSettings:
        settings = self._settings()
        if settings is None:
            raise Unknown("no documents for apps are served: configure clients.signing_key_file")
        return settings

    def _service(self, request: web.Request, environment: str | None) -> Service:
        return service_of(request, self._policy_set(), request.match_info["service"], environment)

    def _where(self, request: web.Request, environment: str | None) -> tuple[str, str, str]:
        service = self._service(request, environment)
        return service.name, service.environment, _platform(request)

    def _headers(self) -> dict[str, str]:
        if not self.public():
            return {"Cache-Control": f"private, max-age={_MAX_AGE}"}
        return {"Cache-Control": f"public, max-age={_MAX_AGE}", "Access-Control-Allow-Origin": "*"}


def _platform(request: web.Request) -> str:
    try:
        return _PLATFORM.validate_python(request.match_info["platform"])
    except ValidationError:
        raise Invalid("a platform is a lower-case name such as android", "platform") from None


async def _content(tx: Transaction, service: str, environment: str, platform: str) -> dict[str, Any] | None:
    rules = await client_rules.get(tx, service, environment, platform)
    runs = await deployments.newest(tx, service, environment, platform)
    if rules is None and runs is None:
        return None
    rules = rules or Rules()
    version = runs.version if runs else ""
    if runs and (runs.status in _GONE or version in rules.blocked_versions):
        where = {"service": service, "environment": environment, "platform": platform}
        found = await tx.all("good_on_platform", **where, running=version, most=_MOST_CANDIDATES)
        version = next((row["version"] for row in found if row["version"] not in rules.blocked_versions), "")
    who = {"service": service, "platform": platform, "environment": environment}
    return {**who, "version": version, **rules.model_dump()}


def _tag(where: tuple[str, str, str], rules: Rules) -> str:
    return tag_of("\0".join((*where, str(rules.revision))).encode())


def _as_answer(where: tuple[str, str, str], rules: Rules, **more: Any) -> web.Response:
    service, environment, platform = where
    who = {"service": service, "platform": platform, "environment": environment}
    response = answer({**who, **rules.model_dump(), **more})
    response.headers["ETag"] = f'"{_tag(where, rules)}"'
    return response
