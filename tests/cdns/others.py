"""Cloudflare's purge and Fastly's versions and purge."""

from __future__ import annotations

import json
from typing import Any

from tests.cdns.wire import Request, Response

ZONE = "0123456789abcdef0123456789abcdef"
TOKEN = "a-token-of-the-tests"


def _json(status: int, payload: Any, **headers: str) -> Response:
    return Response(status, json.dumps(payload).encode(), {"Content-Type": "application/json", **headers})


class FakeCloudflare:
    """`limited`: the number of next requests to refuse with a rate limit. `fails`: errors answered with 200."""

    def __init__(self) -> None:
        self.purges: list[dict[str, Any]] = []
        self.limited = 0
        self.fails = False
        self.may_purge = True

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
            return self._no(429, 10429, "Rate limited. Please wait and consider throttling your request speed")
        body = json.loads(request.body)
        if len(body) != 1 or not set(body) <= {"purge_everything", "files", "tags", "prefixes", "hosts"}:
            return self._no(400, 1012, "Request must contain one of purge_everything, files, tags, hosts or prefixes")
        if any("://" in prefix for prefix in body.get("prefixes", ())):
            return self._no(400, 1036, "Invalid prefix")
        if self.fails:
            return self._no(200, 1134, "Unable to purge")
        self.purges.append(body)
        return _json(200, {"success": True, "errors": [], "messages": [], "result": {"id": ZONE}})

    @staticmethod
    def _no(status: int, code: int, message: str) -> Response:
        payload = {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}
        return _json(status, payload)


class FakeFastly:
    """One service with a version for each release, and a draft that was never locked."""

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

    def answer(self, request: Request) -> Response:
        if request.headers.get("fastly-key") != TOKEN:
            return _json(401, {"msg": "Provided credentials are missing or invalid"})
        if self.limited:
            self.limited -= 1
            return _json(429, {"msg": "Too Many Requests"})
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["service", "SVC1", "version"]:
                return _json(200, self.versions)
            case "GET", ["tokens", "self"]:
                return _json(200, {"id": "T1", "services": self.services, "scope": self.scope})
            case "PUT", ["service", "SVC1", "version", number, "activate"]:
                if number not in {str(version["number"]) for version in self.versions}:
                    return _json(404, {"msg": "Record not found", "detail": f"Couldn't find Version {number}"})
                for version in self.versions:
                    version["active"] = str(version["number"]) == number
                return _json(200, {"number": int(number), "active": True})
            case "POST", ["service", "SVC1", "purge"]:
                keys = json.loads(request.body)["surrogate_keys"]
                self.purges.append(("keys", request.headers.get("fastly-soft-purge") == "1", keys))
                self.stale |= {path for path, (_, tagged) in self.held.items() if set(tagged) & set(keys)}
                return _json(200, {key: f"purge-{key}" for key in keys})
            case "POST", ["service", "SVC1", "purge_all"]:
                if request.headers.get("fastly-soft-purge"):
                    return _json(400, {"msg": "Soft purge is not possible for all"})
                self.purges.append(("all", False, []))
                self.held.clear()
                return _json(200, {"status": "ok"})
        return _json(404, {"msg": "Record not found"})
