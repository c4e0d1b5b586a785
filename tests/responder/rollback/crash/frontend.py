"""Stages of a site: copied to its location, or selected by a pointer, behind the cache of each CDN.

Visitors come before and after each of our calls, so that caches hold whatever was served then.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from responder.backends.resource import Resource
from responder.backends.sites.cdn_client import Cloudflare, Fastly
from responder.transport.aws import Aws
from tests.cdns import Amazon, FakeCloudflare, FakeFastly
from tests.cdns.amazon import ARN, RECORDED
from tests.cdns.others import ZONE
from tests.cdns.site import site, stock
from tests.cdns.straight import StraightAws, StraightCloudflare, StraightFastly
from tests.cdns.wire import Request
from tests.contents.stand_ins import attributes
from tests.responder.rollback.crash.stages import Everything, RollbackScenario, shop

_HEALTHY = [{"http": "http://shop/health"}]
_EDGE = {"version": ["http://edge/version.json"], "hold_for": "0s", "within": "3s"}
_RELEASES = {"s3": "s3://shop/releases"}
_VISITED = ("index.html", "version.json")
_PAGES = (*_VISITED, "sw.js")


class _Backends:
    """Everything that a rollback may change."""

    def __init__(self, path: str = "/releases/2") -> None:
        self.now = 0.0
        self.amazon = Amazon(takes=0.2, clock=lambda: self.now)
        distribution = self.amazon.distributions["E1"]
        distribution.config = distribution.config.replace(distribution.origin_path, path)
        self.cloudflare, self.fastly = FakeCloudflare(), FakeFastly()
        stock(self.amazon)
        self.clients: dict[type, Any] = {
            Aws: StraightAws(self.amazon),
            Cloudflare: StraightCloudflare(self.cloudflare),
            Fastly: StraightFastly(self.fastly),
        }

    def wait(self, seconds: float) -> None:
        self.now += max(seconds, 0.1)

    def begun(self) -> None:
        for kind in (Cloudflare, Fastly):
            self.clients[kind].purged.clear()

    def visited(self) -> dict[str, Any]:
        """What a visitor gets from CloudFront and from Fastly, which caches images under another key than pages."""
        requests = {page: Request.of("GET", f"/edge/E1/{page}", {}, b"") for page in _VISITED}
        fastly = {path: self.fastly.visited(path, key) for path, key in (("/", "app"), ("/logo.svg", "pictures"))}
        return {
            "edge": {page: self.amazon.answer(request).body for page, request in requests.items()},
            "fastly": fastly,
        }

    def outside(self) -> dict[str, Any]:
        return {**self.visited(), **self._set()}

    def _set(self) -> dict[str, Any]:
        """The values that the resources set."""
        pointed = self.amazon.s3.objects["shop/current.json"]
        return {
            "live": {page: self.amazon.s3.objects[f"shop/live/{page}"].body for page in _PAGES},
            "path": self.amazon.distributions["E1"].origin_path,
            "keys": dict(self.amazon.keys),
            "object": (pointed.body, pointed.headers),
            "active": self.fastly.active,
        }

    def contents(self) -> dict[str, Any]:
        """Everything, besides the caches, which visitors fill."""
        without = (*RECORDED, "cache", "held", "stale")
        servers = {"amazon": self.amazon, "cloudflare": self.cloudflare, "fastly": self.fastly}
        return {name: attributes(server, without=without) for name, server in servers.items()}

    def written(self) -> Any:
        self.visited()
        invalidations = [i.reference for i in self.amazon.distributions["E1"].invalidations]
        values = self._set()
        where = (values["live"]["version.json"], *(values[name] for name in ("path", "keys", "object", "active")))
        # These have no record: after a crash between a purge and its event, the purge is repeated, which is harmless.
        return where, invalidations, bool(self.cloudflare.purges), bool(self.fastly.purges)

    def stranger(self, resource: Resource) -> Awaitable[Any]:
        async def act() -> Any:
            match resource.model_dump()["resource"]:
                case "live_prefix":
                    self.amazon.s3.put("shop/live/version.json", '{"version": "3"}')
                case "origin_path":
                    distribution = self.amazon.distributions["E1"]
                    distribution.config, distribution.etag = (
                        distribution.config.replace(distribution.origin_path, "/releases/3"),
                        distribution.etag + 1,
                    )
                case "cloudfront_key":
                    self.amazon.keys, self.amazon.keys_etag = {"active": "3"}, self.amazon.keys_etag + 1
                case "pointer_object":
                    self.amazon.s3.put("shop/current.json", '{"version": "3"}')
                case "fastly_version":
                    for version in self.fastly.versions:
                        version["active"] = version["number"] == 1
                case _:
                    return None  # a purge cannot be undone
            return await resource.read(self.clients[resource.client])

        return act()

    async def leave(self) -> None:
        await self.clients[Cloudflare].close()
        await self.clients[Fastly].close()


_PURGED = "a purge cannot be undone"
MAY_DIFFER = {
    "*/invalidations": "the caches are purged",
    "*/purges": "the caches are purged",
    "*/keys_etag": "counts the writes",
    **{f"*/distributions/E1/{name}": "every write sets it" for name in ("etag", "changed_at", "path_before")},
    "*shop~1live~1assets*": "assets of each version are added and stay: open pages still load them",
}


def _stage(
    rollback: dict[str, Any],
    changes: list[str],
    rolled_back: Callable[[dict[str, Any]], dict[str, Any]],
    gateway: _Backends | None = None,
    shows: Callable[[_Backends], bytes] = lambda gateway: b"",
) -> RollbackScenario:
    """`shows`: the version document that visitors get."""
    gateway = gateway or _Backends()
    web = {**rollback.pop("web"), "edge": _EDGE}
    return shop(
        {"strategy": "frontend", "web": web, "health_check_urls": ["http://front/"], **rollback},
        _HEALTHY,
        outside=gateway.outside,
        rolled_back=rolled_back(gateway.outside()),
        everything=Everything(gateway.contents, changes, MAY_DIFFER, {"*/invalidations": _PURGED, "*/purges": _PURGED}),
        stranger=gateway.stranger,
        clients=gateway.clients,
        written=gateway.written,
        wait=gateway.wait,
        begun=gateway.begun,
        served=lambda url: shows(gateway) if "edge" in url else b"",
        leave=gateway.leave,
    )


def _of_cloudfront(gateway: _Backends) -> bytes:
    return bytes(gateway.visited()["edge"]["version.json"])


def copied(directory: Path) -> RollbackScenario:
    def after(before: dict[str, Any]) -> dict[str, Any]:
        good = Amazon()
        stock(good, live="1")
        pages = {page: good.s3.objects[f"shop/live/{page}"].body for page in before["live"]}
        return {"live": pages, "edge": {page: pages[page] for page in _VISITED}}

    copy = {"live": "s3://shop/live", "releases": _RELEASES}
    rollback = {"web": {"copy": copy}, "cdn_invalidation": {"cloudfront": "E1"}}
    return _stage(rollback, ["*shop~1live~1*/body"], after, _Backends("/live"), _of_cloudfront)


def origin_path(directory: Path) -> RollbackScenario:
    pointer = {"origin_path": "/releases/{version}", "distribution": "E1"}

    def after(before: dict[str, Any]) -> dict[str, Any]:
        return {"path": "/releases/1", "edge": {page: site("1")[page] for page in _VISITED}}

    changes = ["*/distributions/E1/config"]
    return _stage({"web": {"pointer": pointer, "releases": _RELEASES}}, changes, after, shows=_of_cloudfront)


def key(directory: Path) -> RollbackScenario:
    rollback = {"web": {"pointer": {"kvs": ARN, "key": "active"}, "releases": _RELEASES}}
    rollback["cdn_invalidation"] = {"cloudflare": ZONE}
    return _stage(rollback, ["*/keys/active"], lambda before: {"keys": {"active": "1"}})


def pointer_object(directory: Path) -> RollbackScenario:
    def after(before: dict[str, Any]) -> dict[str, Any]:
        _, how = before["object"]
        return {"object": (b'{"version": "1"}', how)}

    web = {"pointer": {"object": "s3://shop/current.json"}, "releases": _RELEASES}
    return _stage({"web": web}, ["*shop~1current.json/body"], after)


def fastly(directory: Path) -> RollbackScenario:
    rollback = {"web": {"pointer": {"fastly": "SVC1"}}, "cdn_invalidation": {"fastly": "SVC1", "keys": ["app"]}}

    def shows(gateway: _Backends) -> bytes:
        return json.dumps({"version": gateway.visited()["fastly"]["/"]}).encode()

    after = {"active": 2, "fastly": {"/": "1", "/logo.svg": "2"}}
    return _stage(rollback, ["*/versions/*/active"], lambda before: after, shows=shows)


STAGES = {
    "frontend_copied": copied,
    "frontend_origin_path": origin_path,
    "frontend_key": key,
    "frontend_object": pointer_object,
    "frontend_fastly": fastly,
}
