"""Google Play's Developer API: what a track has, and changes that are validated before they are committed."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, model_validator

from foundation.secret_files import SecretFile
from responder.backends.app_stores.client import Store, key_text
from responder.config.durations import Duration
from responder.errors import ResponderError, StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.json_api import ApiRefused

Release = dict[str, Any]
"""As the API has it: `versionCodes`, `status`, `userFraction`, `name` and what else somebody gave it."""

Change = Callable[[list[Release]], list[Release] | None]
"""From all releases of a track to all that it should have; None where it has them."""

_QUOTA = {"quotaExceeded", "rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "RESOURCE_EXHAUSTED"}
_SCOPE = "https://www.googleapis.com/auth/androidpublisher"


class GooglePlaySettings(BaseModel):
    """How Google Play is reached: as a service account of our own, since an account has one open edit at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_file: SecretFile | None = Field(default=None, description="JSON key of the service account")
    key: SecretStr | None = Field(default=None, description="The same, as ${GOOGLE_PLAY_KEY}")
    url: HttpUrl = Field(default=HttpUrl("https://androidpublisher.googleapis.com"), description="Where its API is")
    token_uri: HttpUrl | None = Field(default=None, description="Where tokens are made; default: as the key says")
    timeout: Duration = Field(default=30.0, gt=0, description="Longest wait for one answer")

    @model_validator(mode="after")
    def _has_one_key(self) -> GooglePlaySettings:
        if (self.key_file is None) == (self.key is None):
            raise ValueError("needs exactly one of key_file, key")
        return self


@dataclass
class _Edit:
    path: str
    over: bool = False  # committed, or ended by another one


class GooglePlay(Store):
    """Each look and each change is an edit of its own. One at a time: a new one ends the account's edit before it."""

    name = "Google Play"
    package = "google.oauth2"
    rights = (
        "In the Play Console under Users and permissions the service account needs, for this app, 'View app "
        "information' and 'Release to production' (or 'to testing tracks'); at first that takes some hours. Is its key "
        "still in use?"
    )

    def __init__(self, settings: GooglePlaySettings, credentials: Any) -> None:
        super().__init__(str(settings.url), settings.timeout)
        self._credentials = credentials
        self._alone, self._logging_in = asyncio.Lock(), asyncio.Lock()

    @classmethod
    async def connect(cls, settings: GooglePlaySettings | None) -> Self:
        if settings is None:
            raise StepFailed("there is no key for Google Play: configure stores.google_play")
        text = await key_text(settings.key, settings.key_file, "stores.google_play")
        return cls(settings, await asyncio.to_thread(_credentials, text, settings))

    async def read(self, app: str, track: str) -> list[Release]:
        """All releases that the track lists."""
        async with self._edit(app) as edit:
            return await self._releases(edit, track)

    async def rehearse(self, app: str, track: str, change: Change, *, sent_for_review: bool = True) -> None:
        """Everything but the commit. Raises ApiRefused where the store would not take it."""
        await self._change(app, track, change, sent_for_review, commit=False)

    async def write(self, app: str, track: str, change: Change, *, sent_for_review: bool = True) -> None:
        """Raises Unavailable where somebody else committed meanwhile: whoever tries again begins by reading."""
        await self._change(app, track, change, sent_for_review, commit=True)

    async def _change(self, app: str, track: str, change: Change, sent_for_review: bool, *, commit: bool) -> None:
        async with self._edit(app) as edit:
            found = await self._releases(edit, track)
            if (wanted := change(found)) is None:
                return
            await self._in(edit, "PUT", f"/tracks/{quote(track, safe='')}", {"track": track, "releases": wanted})
            if sent_for_review:  # else validating would refuse just that: it takes no such parameter
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
                edit.over = True  # there is no time left: it expires by itself
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
                raise Unavailable(f"our edit was ended by another one: {refused}") from refused
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
            "stores.google_play: that is no JSON key of a service account (Google Cloud: IAM, Service accounts, Keys)"
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
    except (TypeError, AttributeError, ValueError) as e:  # where it succeeds with a body that is no token
        raise Unavailable(f"Google's token server answered with something else: {e}") from None
    except exceptions.RefreshError as e:
        reason = str(e.args[0]) if e.args else "no reason"
        if e.retryable or reason.startswith("No access token"):  # the latter where it succeeds with another body
            raise Unavailable(f"Google's token server: {reason}") from None
        raise StepFailed(
            f"Google does not take the key of the service account: {reason}. Was it deleted, or is the clock of this "
            "host wrong? Make a new key in Google Cloud, and put it where stores.google_play says"
        ) from None
