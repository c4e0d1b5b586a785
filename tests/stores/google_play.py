"""Google Play's edits, tracks and tokens, for one app with one track."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import jwt

from tests.cdns.wire import Refusal, Request, Response
from tests.contents.stand_ins import attributes
from tests.stores.keys import ACCOUNT, google_key

APP = "com.example.shop"
ROOT = f"/androidpublisher/v3/applications/{APP}/edits"
_AUDIENCE = "https://oauth2.googleapis.com/token"
_SCOPE = "https://www.googleapis.com/auth/androidpublisher"
_STATUSES = {"draft", "inProgress", "halted", "completed"}

Release = dict[str, Any]


def release(code: int, version: str, status: str, fraction: float | None = None) -> Release:
    fields = {"name": f"{code} ({version})", "versionCodes": [str(code)], "status": status}
    return {**fields, "releaseNotes": [{"language": "en-US", "text": f"What is new in {version}"}]} | (
        {"userFraction": fraction} if fraction is not None else {}
    )


def contents(play: FakePlay) -> dict[str, Any]:
    """The releases and the edits that are open. Reading needs an edit; a closed one has no effect."""
    own = attributes(play, without=("tokens", "requests", "commits", "edits"))
    releases = {release["versionCodes"][-1]: release for release in play.releases}
    return {**own, "releases": releases, "open": [edit.user for edit in play.edits.values() if not edit.gone]}


@dataclass
class Edit:
    user: str
    releases: list[Release]
    base: int  # number of commits
    gone: str = ""


class FakePlay:
    """`takes`: seconds until a commit is visible. `tick`: advances the time with each request.

    `no_resume`: refuses to serve a halted release again. Not known, and so not imitated: the reviews of Google, the
    limits of requests per day, and all rules of the validation.
    """

    def __init__(
        self,
        *releases: Release,
        takes: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.takes, self.clock, self._tick = takes, clock, tick
        self.commits: list[tuple[float, list[Release]]] = [(-1e9, list(releases))]
        self.full = [41]  # the previous full release, which replaces a halted one
        self.edits: dict[str, Edit] = {}
        self.tokens: set[str] = set()
        self.rights = {"view", "release"}
        self.limited: list[Response] = []  # scripted answers, in order
        self.demands_manual_review = False
        self.no_resume = False
        self.requests: list[str] = []

    @property
    def releases(self) -> list[Release]:
        """The current releases, visible or not."""
        return self.commits[-1][1]

    def shares(self) -> dict[str, tuple[str, float | None]]:
        return {
            release["versionCodes"][-1]: (release["status"], release.get("userFraction")) for release in self.releases
        }

    def committed_by_another(self, *releases: Release) -> None:
        """A change in the Play Console or by another account."""
        self._commit(list(releases))

    def answer(self, request: Request) -> Response:
        self._tick()
        self.requests.append(f"{request.method} {request.path.removeprefix(ROOT)}")
        if request.path == "/token":
            return self._token(request)
        try:
            user = self._user(request)
            if self.limited:
                return self.limited.pop(0)
            if not request.path.startswith(ROOT):
                raise Refusal(404, "NOT_FOUND", f"Package not found: {request.path.split('/')[4]}.")
            return _json(200, self._edits(request, user, request.path.removeprefix(ROOT)))
        except Refusal as no:
            return refused(no.status, no.code, no.message)

    # --- authentication
    def _token(self, request: Request) -> Response:
        form = {key: values[0] for key, values in parse_qs(request.body.decode()).items()}
        try:
            if form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer":
                return _json(400, {"error": "unsupported_grant_type"})
            public = google_key().public_key()
            claims = jwt.decode(form["assertion"], public, algorithms=["RS256"], audience=_AUDIENCE, issuer=ACCOUNT)
            if claims["scope"] != _SCOPE or claims["exp"] - claims["iat"] > 3600:
                return _json(400, {"error": "invalid_scope"})
        except (jwt.PyJWTError, KeyError):
            return _json(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        return _json(200, {"access_token": self.token(), "expires_in": 3599, "token_type": "Bearer"})

    def token(self) -> str:
        token = f"ya29.{len(self.tokens)}"
        self.tokens.add(token)
        return token

    def _user(self, request: Request) -> str:
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            raise Refusal(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        self._may("view")
        return ACCOUNT

    def _may(self, right: str) -> None:
        if right not in self.rights:
            raise Refusal(403, "PERMISSION_DENIED", "The caller does not have permission")

    # --- edits
    def _edits(self, request: Request, user: str, path: str) -> Any:
        if (request.method, path) == ("POST", ""):
            for other in self.edits.values():
                if other.user == user and not other.gone:
                    other.gone = "This edit has been deleted."
            visible = [commit for commit in self.commits if self.clock() - commit[0] >= self.takes]
            self.edits[name := str(len(self.edits) + 1)] = Edit(user, copy.deepcopy(visible[-1][1]), len(visible))
            return {"id": name, "expiryTimeSeconds": "1800000000"}
        name, _, rest = path.strip("/").partition("/")
        name, _, verb = name.partition(":")
        edit = self.edits.get(name)
        if edit is None:
            raise Refusal(404, "NOT_FOUND", "Edit not found.")
        if edit.gone:
            raise Refusal(400, "FAILED_PRECONDITION", edit.gone)
        match request.method, verb or rest:
            case "DELETE", "":
                edit.gone = "This edit has been deleted."
                return {}
            case "GET", "tracks/production":
                return {"track": "production", "releases": edit.releases}
            case "PUT", "tracks/production":
                self._may("release")
                edit.releases = self._checked(json.loads(request.body))
                return {"track": "production", "releases": edit.releases}
            case "POST", "validate":
                if "changesNotSentForReview" in request.query:
                    raise Refusal(400, "INVALID_ARGUMENT", "Unknown name changesNotSentForReview")
                self._validate(edit, sent=True)
                return {"id": name}
            case "POST", "commit":
                self._validate(edit, sent=request.query.get("changesNotSentForReview") != "true")
                edit.gone = "This edit has already been committed."
                self._commit(edit.releases)
                return {"id": name}
        raise Refusal(404, "NOT_FOUND", f"Track not found: {rest}.")

    def _checked(self, body: dict[str, Any]) -> list[Release]:
        releases: list[Release] = body.get("releases", [])
        known = {code for _, before in self.commits for release in before for code in release["versionCodes"]}
        for release in releases:
            status, fraction = release.get("status"), release.get("userFraction")
            if status not in _STATUSES:
                raise Refusal(400, "INVALID_ARGUMENT", f"Invalid value at 'status': {status}")
            if fraction is not None and (status not in ("inProgress", "halted") or not 0 < fraction < 1):
                raise Refusal(400, "INVALID_ARGUMENT", "userFraction must be in (0, 1), of inProgress or halted only")
            if status == "inProgress" and fraction is None:
                raise Refusal(400, "INVALID_ARGUMENT", "A staged release needs a userFraction")
            if not set(release.get("versionCodes", ())) <= known:
                raise Refusal(403, "PERMISSION_DENIED", "Version code was not found")
        if sum(release["status"] == "completed" for release in releases) > 1:
            raise Refusal(400, "INVALID_ARGUMENT", "A track has at most one completed release")
        return releases

    def _validate(self, edit: Edit, *, sent: bool) -> None:
        self._may("release")
        if edit.base != len(self.commits):
            raise Refusal(400, "FAILED_PRECONDITION", "This edit has expired, please create a new Edit.")
        if self.demands_manual_review and sent:
            hint = "Changes cannot be sent for review automatically. Please set the query parameter"
            raise Refusal(400, "INVALID_ARGUMENT", f"{hint} changesNotSentForReview to true.")
        before = {
            code for release in self.releases if release["status"] == "completed" for code in release["versionCodes"]
        }
        halted = {
            code for release in edit.releases if release["status"] == "halted" for code in release["versionCodes"]
        }
        paused = {
            code for release in self.releases if release["status"] == "halted" for code in release["versionCodes"]
        }
        served = {
            code for release in edit.releases if release["status"] != "halted" for code in release["versionCodes"]
        }
        if self.no_resume and paused & served:
            text = "You cannot rollout this release because it does not allow any existing users to upgrade"
            raise Refusal(400, "INVALID_ARGUMENT", text)
        if before & halted and not self.full:
            raise Refusal(400, "INVALID_ARGUMENT", "The first release of a track cannot be halted.")

    def _commit(self, releases: list[Release]) -> None:
        for other in self.edits.values():
            other.gone = other.gone or "This edit has expired, please create a new Edit."
        serving = [release for release in releases if release["status"] in ("completed", "inProgress")]
        if self.full and not serving and any(release["status"] == "halted" for release in releases):
            releases = [*releases, release(self.full[-1], "1", "completed")]
        self.commits.append((self.clock(), releases))


def refused(status: int, code: str, message: str, reason: str = "", **headers: str) -> Response:
    """A refusal in the format of Google's APIs."""
    error = {"code": status, "message": message, "status": code}
    error["errors"] = [{"message": message, "domain": "androidpublisher", "reason": reason or "badRequest"}]
    return _json(status, {"error": error}, **headers)


def _json(status: int, payload: Any, **headers: str) -> Response:
    return Response(status, json.dumps(payload).encode(), {"Content-Type": "application/json", **headers})
