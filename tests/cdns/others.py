"""Cloudflare's purge and Fastly's versions and purge."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

from tests.cdns.wire import Request, Response

ZONE = "0123456789abcdef0123456789abcdef"
TOKEN = "a-token-of-the-tests"


def _json(status: int, payload: Any, **headers: str) -> Response:
    return Response(status, json.dumps(payload).encode(), {"Content-Type": "application/json", **headers})


class FakeCloudflare:
    """`limited`: the number of next requests to refuse with a rate limit. `fails`: errors answered with 200.

    Not known, and so not imitated: whether the real API checks the permission before the body, the seconds until all
    edges have purged, and the limits of each price plan.
    """

    def __init__(self) -> None:
        self.purges: list[dict[str, Any]] = []
        self.limited = 0
        self.fails = False
        self.may_purge = True
        self.wait: dict[str, str] = {}  # headers of a rate limit, such as Retry-After

    def answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._no(403, 10000, "Authentication error")
        if (request.method, request.path) == ("GET", f"/zones/{ZONE}"):
            return _json(200, {"success": True, "errors": [], "messages": [], "result": {"id": ZONE}})
        if request.method != "POST" or request.path != f"/zones/{ZONE}/purge_cache":
            return self._no(404, 7003, "Could not route to it, perhaps your object identifier is invalid?")
        if not self.may_purge:
            return self._no(403, 10000, "Authentication error")
        if self.limited:
            self.limited -= 1
            text = "Rate limited. Please wait and consider throttling your request speed"
            return self._no(429, 10429, text, **self.wait)
        body = json.loads(request.body)
        if len(body) != 1 or not set(body) <= {"purge_everything", "files", "tags", "prefixes", "hosts"}:
            return self._no(400, 1012, "Request must contain one of purge_everything, files, tags, hosts or prefixes")
        if any("://" in prefix or "*" in prefix or prefix.count("/") > 31 for prefix in body.get("prefixes", ())):
            return self._no(400, 1036, "Invalid prefix")
        if any("://" not in file for file in body.get("files", ())):
            return self._no(400, 1016, "Invalid objects specified for purge. Only HTTP, HTTPS URLs are allowed")
        if any(isinstance(values, list) and not 0 < len(values) <= 30 for values in body.values()):
            return self._no(400, 1094, "Unable to purge, at most 30 at a time")
        if self.fails:
            return self._no(200, 1134, "Unable to purge")
        self.purges.append(body)
        return _json(200, {"success": True, "errors": [], "messages": [], "result": {"id": ZONE}})

    @staticmethod
    def _no(status: int, code: int, message: str, **headers: str) -> Response:
        payload = {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}
        return _json(status, payload, **headers)


class FakeFastly:
    """One service with a version for each release, and a draft that was never locked.

    Not known, and so not imitated: the delay until all edges use an activated version, and the text of a 403.
    """

    def __init__(self) -> None:
        self.versions = [
            {"number": n, "active": n == 3, "locked": n < 4, "comment": comment, "service_id": "SVC1"}
            for n, comment in ((1, "0"), (2, "1"), (3, "2"), (4, ""))
        ]
        self.purges: list[tuple[str, bool, list[str]]] = []
        self.held: dict[str, tuple[str, tuple[str, ...]]] = {}  # by path: the release and the surrogate keys
        self.stale: set[str] = set()
        self.limited = 0
        self.services: list[str] = []  # services of the token; none: all
        self.scope = "global"
        self.resets_in = 0  # seconds until the limit ends, if the answer has the headers for it
        self.invalid: dict[int, str] = {}  # versions that do not validate: the reason

    def visited(self, path: str, *keys: str) -> str:
        """The release that a visitor of a page gets; stale content is served once while it is refreshed."""
        fresh = next(str(version["comment"]) for version in self.versions if version["active"])
        served, _ = self.held.get(path, (fresh, ()))
        if path not in self.held or path in self.stale:
            self.held[path] = fresh, keys
            self.stale.discard(path)
        return served

    @property
    def active(self) -> int:
        return next(int(version["number"]) for version in self.versions if version["active"])  # type: ignore[call-overload]

    def limits(self) -> dict[str, str]:
        """The headers of a request over the limit: no Retry-After, but the Unix time at which the hour ends."""
        now = time.time()
        reset = {"Fastly-RateLimit-Remaining": "0", "Fastly-RateLimit-Reset": str(int(now) + self.resets_in)}
        return {**reset, "Date": formatdate(now, usegmt=True)} if self.resets_in else {}

    def _may(self, method: str, parts: list[str]) -> bool:
        if self.services and parts[1] not in self.services:
            return False
        purge = {"purge": {"purge_select"}, "purge_all": {"purge_all"}}.get(parts[2], set())
        return bool(set(self.scope.split()) & ({"global", "global:read"} if method == "GET" else {"global", *purge}))

    def answer(self, request: Request) -> Response:
        if request.headers.get("fastly-key") != TOKEN:
            return _json(401, {"msg": "Provided credentials are missing or invalid"})
        parts = request.path.strip("/").split("/")
        if request.method != "GET" and self.limited:  # reads are not limited
            self.limited -= 1
            return _json(429, {"msg": "Too Many Requests"}, **self.limits())
        if parts[0] == "service" and not self._may(request.method, parts):
            return _json(403, {"msg": "You are not authorized to perform this action"})
        match request.method, parts:
            case "GET", ["service", "SVC1", "version", number, "validate"]:
                reason = self.invalid.get(int(number))
                return _json(200, {"status": "error", "msg": reason} if reason else {"status": "ok", "msg": None})
            case "GET", ["service", "SVC1", "version"]:
                return _json(200, self.versions)
            case "GET", ["tokens", "self"]:
                return _json(200, {"id": "T1", "services": self.services, "scope": self.scope})
            case "PUT", ["service", "SVC1", "version", number, "activate"]:
                return self._activate(number)
            case "POST", ["service", "SVC1", "purge" | "purge_all" as what]:
                return self._purge(request, what)
        return _json(404, {"msg": "Record not found"})

    def _activate(self, number: str) -> Response:
        if number not in {str(version["number"]) for version in self.versions}:
            return _json(404, {"msg": "Record not found", "detail": f"Couldn't find Version {number}"})
        if reason := self.invalid.get(int(number)):
            return _json(400, {"msg": "Bad request", "detail": reason})
        for version in self.versions:
            version["active"] = str(version["number"]) == number
        return _json(200, {"number": int(number), "active": True})

    def _purge(self, request: Request, what: str) -> Response:
        soft = request.headers.get("fastly-soft-purge") == "1"
        if what == "purge_all":
            if soft:
                return _json(400, {"msg": "Soft purge is not possible for all"})
            self.purges.append(("all", False, []))
            self.held.clear()
            return _json(200, {"status": "ok"})
        keys = json.loads(request.body)["surrogate_keys"]
        if len(keys) > 256:
            return _json(400, {"msg": "Bad request", "detail": "Too many surrogate keys, at most 256"})
        self.purges.append(("keys", soft, keys))
        self.stale |= {path for path, (_, tagged) in self.held.items() if set(tagged) & set(keys)}
        return _json(200, {key: f"purge-{key}" for key in keys})
