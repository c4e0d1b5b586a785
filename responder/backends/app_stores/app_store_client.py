"""The client of App Store Connect: reads, pauses and resumes phased releases."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

from pydantic import Field, HttpUrl, SecretStr, model_validator

from foundation.durations import Duration
from foundation.models import StrictModel, exactly_one
from foundation.secrets import SecretFile
from responder.backends.app_stores.client import StoreApi
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.json_api import ApiRefused

_LIFETIME = 900
"""Lifetime of a token in seconds. Apple accepts at most 20 minutes."""

_RENEWED_BEFORE = 120
"""Seconds before the end of a token in which it is renewed."""

_PHASED = "appStoreVersionPhasedReleases"
_NO_STATE = "CHECKED_BY_ROLLBACK_RESPONDER"


class AppStoreSettings(StrictModel):
    """Access to App Store Connect with a team key that has the role App Manager."""

    key_id: str = Field(min_length=1, description="Key ID, such as 2X9R4HXF34")
    issuer_id: str = Field(min_length=1, description="Issuer ID, such as 57246542-96fe-1a63-e053-0824d011072a")
    key_file: SecretFile | None = Field(default=None, description="Key file, such as AuthKey_2X9R4HXF34.p8")
    key: SecretStr | None = Field(default=None, description="The key itself, such as ${APP_STORE_KEY}")
    url: HttpUrl = Field(default=HttpUrl("https://api.appstoreconnect.apple.com"), description="URL of the API")
    timeout: Duration = Field(default=30.0, gt=0, description="Deadline of one request")

    @model_validator(mode="after")
    def _has_one_key(self) -> AppStoreSettings:
        exactly_one(self, "key", "key_file")
        return self


class Phased(NamedTuple):
    """A version in the store, and its phased release. `id` and `state` are empty without one."""

    version_state: str
    id: str = ""
    state: str = ""
    paused_days: int = 0  # the App Store allows 30 in total


class AppStore(StoreApi):
    """Reads versions, and sets the state of a phased release, the only thing that can change after a release."""

    name = "App Store Connect"
    setting = "stores.app_store"
    package = "jwt"
    rights = (
        "Check in App Store Connect under Users and Access, Integrations: the key must be active, a team key with the "
        "role App Manager, and match key_id and issuer_id. The clock of this host must be correct"
    )

    def __init__(self, settings: AppStoreSettings, key: str) -> None:
        super().__init__(str(settings.url), settings.timeout)
        self._settings, self._key = settings, key
        self._token, self._expires_at = "", 0.0

    @classmethod
    async def connect(cls, settings: AppStoreSettings) -> Self:
        return cls(settings, await cls._key_of(settings))

    async def read(self, app: str, platform: str, version: str) -> Phased | None:
        """Returns a version; the newest one for an empty `version`. None if the app has no such version."""
        query = {
            **({"filter[versionString]": version} if version else {}),
            "filter[platform]": platform,
            "include": "appStoreVersionPhasedRelease",
            "limit": "1",
        }
        answer = await self._ask("GET", f"/v1/apps/{app}/appStoreVersions?{urlencode(query)}")
        with self._shape():
            return _phased(answer)

    async def require_role(self, phased: str) -> None:
        """Raises StepFailed if the role of the key does not allow to change a phased release. Changes nothing.

        No request returns the role. So this asks for a state that does not exist: 403 means that the role does not
        allow it. Should Apple read the state first, the answer is 409 for every role, and proves nothing.
        """
        with suppress(ApiRefused):
            await self._set(phased, _NO_STATE)

    async def write(self, phased: str, state: str) -> None:
        """Sets the state of a phased release. Raises Unavailable if its current state, changed since, forbids it."""
        acting.get()()
        try:
            await self._set(phased, state)
        except ApiRefused as refused:
            if refused.status == 409:
                raise Unavailable(str(refused)) from refused
            raise

    async def _set(self, phased: str, state: str) -> None:
        body = {"data": {"type": _PHASED, "id": phased, "attributes": {"phasedReleaseState": state}}}
        await self._ask("PATCH", f"/v1/{_PHASED}/{phased}", body)

    async def _bearer_token(self) -> str:
        jwt: Any = await asyncio.to_thread(import_module, "jwt")
        now = time.time()
        if now > self._expires_at - _RENEWED_BEFORE:
            claims = {"iss": self._settings.issuer_id, "iat": int(now), "exp": int(now) + _LIFETIME}
            claims |= {"aud": "appstoreconnect-v1"}
            try:
                head = {"kid": self._settings.key_id, "typ": "JWT"}
                self._token = jwt.encode(claims, self._key, algorithm="ES256", headers=head)
            except (ValueError, TypeError, jwt.PyJWTError):
                raise StepFailed("stores.app_store: not a private key of App Store Connect (AuthKey_….p8)") from None
            self._expires_at = now + _LIFETIME
        return self._token

    def _forget_login(self) -> None:
        self._expires_at = 0.0

    def _error(self, body: dict[str, Any]) -> tuple[str, str]:
        listed = body.get("errors")
        errors = [error for error in listed if isinstance(error, dict)] if isinstance(listed, list) else []
        sentences = (f"{error.get('detail') or error.get('title')} ({error.get('code')})" for error in errors)
        return next((str(error.get("code")) for error in errors), ""), "; ".join(sentences)

    def _usual_pause(self, headers: Mapping[str, str]) -> float:
        """See JsonApi. The limit is per rolling hour, and a header has the remaining requests."""

        return 60.0 if re.search(r"user-hour-rem:0*;", headers.get("X-Rate-Limit", "")) else 0.0


def _phased(answer: dict[str, Any]) -> Phased | None:
    if not answer["data"]:
        return None
    attributes = answer["data"][0]["attributes"]
    state = str(attributes.get("appVersionState") or attributes.get("appStoreState") or "")
    for item in answer.get("included") or ():
        if item["type"] == _PHASED:
            phased = item["attributes"]
            return Phased(state, item["id"], phased["phasedReleaseState"], phased.get("totalPauseDuration") or 0)
    return Phased(state)
