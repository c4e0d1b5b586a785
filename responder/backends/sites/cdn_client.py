"""Clients of the APIs of Cloudflare and Fastly."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Self

from pydantic import Field, HttpUrl, SecretStr

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.errors import StepFailed
from responder.transport.acting import acting
from responder.transport.json_api import ApiRefused, JsonApi


class CdnToken(StrictModel):
    """Access to the API of a CDN."""

    token: SecretStr
    url: HttpUrl
    timeout: Duration = Field(default=15.0, gt=0, description="Deadline of one request")


class CloudflareSettings(CdnToken):
    """Access to Cloudflare."""

    token: SecretStr = Field(description="API token with permission to purge, such as ${CLOUDFLARE_TOKEN}")
    url: HttpUrl = Field(default=HttpUrl("https://api.cloudflare.com/client/v4"), description="URL of the API")


class FastlySettings(CdnToken):
    """Access to Fastly."""

    token: SecretStr = Field(
        description="API token with permission to activate versions and purge, such as ${FASTLY_TOKEN}"
    )
    url: HttpUrl = Field(default=HttpUrl("https://api.fastly.com"), description="URL of the API")


class Cdn(JsonApi):
    """The API of one CDN. `purged` has the references of the purges of this connection: the CDN keeps no record."""

    needs: ClassVar[str] = "a token"

    def __init__(self, settings: CdnToken) -> None:
        super().__init__(str(settings.url), settings.timeout)
        self.purged: set[str] = set()
        self._token = settings.token.get_secret_value()

    @classmethod
    async def connect(cls, settings: CdnToken) -> Self:
        return cls(settings)

    async def read(self, path: str) -> Any:
        """Sends a GET request. See JsonApi.request."""
        return await self.request("GET", path)

    async def write(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        """Sends a request that changes something, after checking the lease. See JsonApi.request."""
        acting.get()()
        return await self.request(method, path, body, headers)


class Cloudflare(Cdn):
    """API v4 of Cloudflare."""

    name, setting = "Cloudflare", "cdn.cloudflare"

    async def knows_zone(self, zone: str) -> bool | None:
        """Returns whether the zone exists. None if the token cannot read zones, only purge them."""
        try:
            await self.read(f"/zones/{zone}")
        except ApiRefused as refused:
            return None if refused.status in (401, 403) else False
        return True

    async def purge_refused(self, zone: str) -> str:
        """Returns why the token may not purge the zone; empty if it may. The request names nothing to purge."""
        try:
            await self.request("POST", f"/zones/{zone}/purge_cache", {})
        except ApiRefused as refused:
            return str(refused) if refused.status in (401, 403) else ""
        return ""

    async def verify_token(self) -> None:
        """Raises ApiRefused if the token is invalid or inactive."""
        await self.read("/user/tokens/verify")

    async def _login(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def _document(self, status: int, text: str) -> Any:
        answer = super()._document(status, text)
        if isinstance(answer, dict) and answer.get("success") is False:
            raise StepFailed(f"{self.name} answered {status}, but refuses: {self._error(answer)[1] or text[:200]}")
        return answer

    def _error(self, body: dict[str, Any]) -> tuple[str, str]:
        listed = body.get("errors")
        errors = [error for error in listed if isinstance(error, dict)] if isinstance(listed, list) else []
        text = "; ".join(f"{error.get('message')} ({error.get('code')})" for error in errors)
        return next((str(error.get("code")) for error in errors), ""), text


class Fastly(Cdn):
    """The API of Fastly."""

    name, setting = "Fastly", "cdn.fastly"

    async def purge_refused(self, service: str, scope: str) -> str:
        """Returns why the token cannot purge the service; empty if it can. `scope`: purge_select or purge_all."""
        return await self._scope_missing(service, {"global", scope})

    async def activation_refused(self, service: str) -> str:
        """Returns why the token cannot activate a version of the service; empty if it can."""
        return await self._scope_missing(service, {"global"})

    async def _scope_missing(self, service: str, needed: set[str]) -> str:
        token = await self.read("/tokens/self")
        services, scope = token.get("services") or [], str(token.get("scope", "global"))
        if services and service not in services:
            return f"it is for {', '.join(services)}"
        return (
            "" if needed & set(scope.split()) else f"it has the scope {scope}, expected {' or '.join(sorted(needed))}"
        )

    def _usual_pause(self, headers: Mapping[str, str]) -> float:
        """See JsonApi. The limit is per hour, and a header has its end in Unix seconds."""
        try:
            now = parsedate_to_datetime(headers["Date"]).timestamp()
            return min(max(float(headers["Fastly-RateLimit-Reset"]) - now, 0.0), 3600.0)
        except (LookupError, ValueError):
            return 0.0

    async def _login(self) -> dict[str, str]:
        return {"Fastly-Key": self._token}

    def _error(self, body: dict[str, Any]) -> tuple[str, str]:
        return "", f"{body['msg']} {body.get('detail', '')}".strip() if "msg" in body else ""
