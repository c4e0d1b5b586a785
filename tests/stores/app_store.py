"""App Store Connect's versions and phased releases, for one app."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import jwt

from tests.cdns.wire import Refusal, Request, Response
from tests.contents.stand_ins import attributes
from tests.stores.keys import ISSUER, KEY_ID, apple_key

APP = "1234567890"
_LONGEST = 20 * 60
_NEXT = {
    ("INACTIVE", "ACTIVE"),
    ("ACTIVE", "PAUSED"),
    ("PAUSED", "ACTIVE"),
    ("ACTIVE", "COMPLETE"),
    ("PAUSED", "COMPLETE"),
}


def contents(store: FakeAppStore) -> dict[str, Any]:
    """Everything but the requests that are left in this hour, and what was authorized."""
    return {**attributes(store, without=("tokens", "left", "states")), "state": store.state}


class FakeAppStore:
    """Version 2 of an iOS app is in phased release. `takes`: seconds until a change is visible.

    Not known, and so not imitated: which of several faults of one request is answered, apart from the role, which comes
    first; and whether a pause beyond 30 days is refused or ends by itself.
    """

    def __init__(
        self,
        state: str | None = "ACTIVE",
        *,
        takes: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.takes, self.clock, self._tick = takes, clock, tick
        self.states: list[tuple[float, str | None]] = [(-1e9, state)]
        self.version_state = "READY_FOR_DISTRIBUTION"
        self.role = "APP_MANAGER"
        self.left = 3600  # requests in this hour
        self.paused_days = 3
        self.answers: list[Response] = []  # scripted answers, in order
        self.tokens: set[str] = set()

    @property
    def state(self) -> str | None:
        """The current state, visible or not."""
        return self.states[-1][1]

    def set(self, state: str) -> None:
        self.states.append((self.clock(), state))

    def answer(self, request: Request) -> Response:
        self._tick()
        try:
            self._authorized(request)
            if self.answers:
                return self.answers.pop(0)
            if not self.left:
                raise Refusal(429, "RATE_LIMIT_EXCEEDED", "We've received too many requests for this API.")
            self.left -= 1
            document = self._api(request)
            return Response(200, json.dumps(document).encode(), self._headers())
        except Refusal as no:
            error = {"id": "1", "status": str(no.status), "code": no.code, "title": no.code, "detail": no.message}
            return Response(no.status, json.dumps({"errors": [error]}).encode(), self._headers())

    def _headers(self) -> dict[str, str]:
        limit = f"user-hour-lim:3600;user-hour-rem:{self.left};"
        return {"Content-Type": "application/json", "X-Rate-Limit": limit}

    def _authorized(self, request: Request) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            head = jwt.get_unverified_header(token)
            claims = jwt.decode(
                token, apple_key().public_key(), algorithms=["ES256"], audience="appstoreconnect-v1", issuer=ISSUER
            )
            if (
                head["kid"] != KEY_ID
                or claims["exp"] - claims["iat"] > _LONGEST
                or claims["exp"] - time.time() > _LONGEST
            ):
                raise jwt.InvalidTokenError("key or time")
        except (jwt.PyJWTError, KeyError):
            message = "Provide a properly configured and signed bearer token, and make sure that it has not expired."
            raise Refusal(401, "NOT_AUTHORIZED", message) from None
        self.tokens.add(token)

    def _api(self, request: Request) -> Any:
        if request.method == "GET" and request.path == f"/v1/apps/{APP}/appStoreVersions":
            wanted = (request.query.get("filter[versionString]", "2"), request.query.get("filter[platform]", "IOS"))
            return self._version(request) if wanted == ("2", "IOS") else {"data": []}
        if request.method == "PATCH" and request.path == "/v1/appStoreVersionPhasedReleases/ph2":
            return self._set(json.loads(request.body)["data"])
        raise Refusal(404, "NOT_FOUND", f"There is no resource with id {request.path.rpartition('/')[2]}")

    def _version(self, request: Request) -> Any:
        state = [state for at, state in self.states if self.clock() - at >= self.takes][-1]
        link = {"type": "appStoreVersionPhasedReleases", "id": "ph2"} if state else None
        version = {
            "type": "appStoreVersions",
            "id": "v2",
            "attributes": {"versionString": "2", "platform": "IOS", "appVersionState": self.version_state},
            "relationships": {"appStoreVersionPhasedRelease": {"data": link}},
        }
        if not state or request.query.get("include") != "appStoreVersionPhasedRelease":
            return {"data": [version]}
        return {"data": [version], "included": [self._phased(state)]}

    def _phased(self, state: str | None) -> dict[str, Any]:
        attributes = {"phasedReleaseState": state, "totalPauseDuration": self.paused_days, "currentDayNumber": 2}
        return {"type": "appStoreVersionPhasedReleases", "id": "ph2", "attributes": attributes}

    def _set(self, data: dict[str, Any]) -> Any:
        if self.role not in ("ADMIN", "APP_MANAGER"):
            raise Refusal(403, "FORBIDDEN_ERROR", "The API key in use does not allow this request")
        if (data["type"], data["id"]) != ("appStoreVersionPhasedReleases", "ph2"):
            raise Refusal(409, "ENTITY_ERROR.ATTRIBUTE.INVALID", "The provided entity includes an unknown type or id")
        wanted = data["attributes"]["phasedReleaseState"]
        if wanted == "PAUSED" and self.paused_days >= 30:
            raise Refusal(409, "STATE_ERROR", "The phased release has been paused for 30 days")
        if (self.state, wanted) not in _NEXT:  # nor its current state
            raise Refusal(
                409, "ENTITY_ERROR.ATTRIBUTE.INVALID", f"The state cannot change from {self.state} to {wanted}"
            )
        self.set(wanted)
        return {"data": self._phased(wanted)}
