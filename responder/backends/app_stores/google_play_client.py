"""The client of the Google Play Developer API: reads tracks, and validates changes before it commits them."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

from pydantic import Field, HttpUrl, SecretStr, model_validator

from foundation.durations import Duration
from foundation.models import StrictModel, exactly_one
from foundation.secrets import SecretFile
from responder.backends.app_stores.client import StoreApi
from responder.errors import ResponderError, StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.json_api import ApiRefused

Release = dict[str, Any]
"""A release in the JSON of the API: `versionCodes`, `status`, `userFraction`, `name` and others."""

Change = Callable[[list[Release]], list[Release] | None]
"""Maps all releases of a track to the desired releases, or returns None if nothing changes."""

_QUOTA = {"quotaExceeded", "rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "RESOURCE_EXHAUSTED"}
_SCOPE = "https://www.googleapis.com/auth/androidpublisher"


class GooglePlaySettings(StrictModel):
    """Access to Google Play. Use a separate service account, because an account has one open edit at a time."""

    key_file: SecretFile | None = Field(default=None, description="JSON key of the service account")
    key: SecretStr | None = Field(default=None, description="The key itself, such as ${GOOGLE_PLAY_KEY}")
    url: HttpUrl = Field(default=HttpUrl("https://androidpublisher.googleapis.com"), description="URL of the API")
    token_uri: HttpUrl | None = Field(default=None, description="Token URL; default: as in the key")
    timeout: Duration = Field(default=30.0, gt=0, description="Deadline of one request")

    @model_validator(mode="after")
    def _has_one_key(self) -> GooglePlaySettings:
        exactly_one(self, "key", "key_file")
        return self


@dataclass
class _Edit:
    path: str
    over: bool = False  # committed, or ended by another edit


class GooglePlay(StoreApi):
    """Each read and each change is a separate edit. Edits run one at a time: a new one ends the previous one."""

    name = "Google Play"
    setting = "stores.google_play"
    package = "google.oauth2"
    imports = ("google.oauth2.service_account", "google.auth.transport.requests")
    rights = (
        "Check in the Play Console under Users and permissions: for this app the service account needs 'View app "
        "information' and 'Release to production' (or 'to testing tracks'), effective after some hours. Its key must "
        "still be active"
    )

    def __init__(self, settings: GooglePlaySettings, credentials: Any) -> None:
        super().__init__(str(settings.url), settings.timeout)
        self._credentials = credentials
        self._alone, self._logging_in = asyncio.Lock(), asyncio.Lock()

    @classmethod
    async def connect(cls, settings: GooglePlaySettings) -> Self:
        text = await cls._key_of(settings)
        return cls(settings, await asyncio.to_thread(_credentials, text, settings))

    async def read(self, app: str, track: str) -> list[Release]:
        """Returns all releases of the track."""
        async with self._edit(app) as edit:
            return await self._releases(edit, track)

    async def validate_change(self, app: str, track: str, change: Change, *, sent_for_review: bool = True) -> None:
        """Makes and validates a change without committing it. Raises ApiRefused if the store would refuse it."""
        await self._change(app, track, change, sent_for_review, commit=False)

    async def write(self, app: str, track: str, change: Change, *, sent_for_review: bool = True) -> None:
        """Makes a change. Raises Unavailable if another commit came first; the retry reads the track again."""
        await self._change(app, track, change, sent_for_review, commit=True)

    async def _change(self, app: str, track: str, change: Change, sent_for_review: bool, *, commit: bool) -> None:
        async with self._edit(app) as edit:
            found = await self._releases(edit, track)
            if (releases := change(found)) is None:
                return
            await self._in(edit, "PUT", f"/tracks/{quote(track, safe='')}", {"track": track, "releases": releases})
            if sent_for_review:  # :validate lacks the parameter, and would refuse the change
                await self._in(edit, "POST", ":validate")
            if commit:
                acting.get()()
                await self._in(edit, "POST", ":commit" + ("" if sent_for_review else "?changesNotSentForReview=true"))
                edit.over = True

    async def _releases(self, edit: _Edit, track: str) -> list[Release]:
        answer = await self._in(edit, "GET", f"/tracks/{quote(track, safe='')}")
        with self._shape():
            return [dict(release) for release in answer.get("releases") or ()]

    @asynccontextmanager
    async def _edit(self, app: str) -> AsyncIterator[_Edit]:
        async with self._alone:
            root = f"/androidpublisher/v3/applications/{quote(app, safe='')}/edits"
            made = await self._ask("POST", root, {})
            with self._shape():
                edit = _Edit(f"{root}/{quote(str(made['id']), safe='')}")
            try:
                yield edit
            except asyncio.CancelledError:
                edit.over = True  # there is no time left to delete it; it expires
                raise
            finally:
                if not edit.over:
                    with suppress(ResponderError):
                        await self._ask("DELETE", edit.path)

    async def _in(self, edit: _Edit, method: str, path: str, body: Any = None) -> Any:
        try:
            return await self._ask(method, edit.path + path, body)
        except ApiRefused as refused:
            about_edit = "edit" in str(refused).partition("): ")[2].lower()
            gone = refused.reason == "FAILED_PRECONDITION" or refused.status == 404
            if refused.status == 409 or (gone and about_edit):
                edit.over = True
                raise Unavailable(f"another edit replaced ours: {refused}") from refused
            raise

    async def _bearer_token(self) -> str:
        async with self._logging_in:
            if not self._credentials.valid:
                await asyncio.to_thread(_refresh, self._credentials, self._timeout)
            return str(self._credentials.token)

    def _forget_login(self) -> None:
        self._credentials.token = None

    def _error(self, body: dict[str, Any]) -> tuple[str, str]:
        error = body.get("error")
        if not isinstance(error, dict):
            return "", ""
        listed: Any = error.get("errors")
        listed = listed if isinstance(listed, list) else []
        reasons = [str(item.get("reason", "")) for item in listed if isinstance(item, dict)]
        reason = next((candidate for candidate in reasons if candidate in _QUOTA), str(error.get("status", "")))
        return reason or next(iter(reasons), ""), str(error.get("message", ""))

    def _over_quota(self, reason: str) -> bool:
        return reason in _QUOTA


def _credentials(text: str, settings: GooglePlaySettings) -> Any:
    from google.oauth2 import service_account

    try:
        info = json.loads(text)
        if settings.token_uri is not None:
            info["token_uri"] = str(settings.token_uri)
        made: Any = service_account.Credentials
        return made.from_service_account_info(info, scopes=[_SCOPE])
    except (ValueError, TypeError, KeyError):
        raise StepFailed(
            "stores.google_play: not a JSON key of a service account (Google Cloud: IAM, Service accounts, Keys)"
        ) from None


def _refresh(credentials: Any, timeout: float) -> None:
    import requests
    from google.auth import exceptions
    from google.auth.transport.requests import Request

    try:
        with requests.Session() as session:
            credentials.refresh(functools.partial(Request(session), timeout=timeout))
    except exceptions.TransportError as e:
        raise Unavailable(f"Google's token server: {e}") from None
    except (TypeError, AttributeError, ValueError) as e:  # a success whose body is not a token
        raise Unavailable(f"Google's token server answered with an unexpected body: {e}") from None
    except exceptions.RefreshError as e:
        reason = str(e.args[0]) if e.args else "no reason"
        if e.retryable or reason.startswith("No access token"):  # the latter for a success with another body
            raise Unavailable(f"Google's token server: {reason}") from None
        raise StepFailed(
            f"Google refuses the key of the service account: {reason}. The key may have been deleted, or the clock of "
            "this host may be wrong. Create a new key in Google Cloud for stores.google_play"
        ) from None
