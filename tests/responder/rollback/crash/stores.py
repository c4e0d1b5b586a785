"""Stages of apps: on Google Play, staged or full, in the App Store, and on desktops."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from responder.backends.app_stores.app_store_client import AppStore
from responder.backends.app_stores.google_play_client import GooglePlay
from responder.backends.host.client import Local
from responder.backends.resource import Resource
from responder.transport.aws import Aws
from tests.cdns import Amazon
from tests.cdns.straight import StraightAws
from tests.contents.files import tree
from tests.responder.rollback.crash.stages import Everything, RollbackScenario, shop
from tests.stores import FakeAppStore, FakePlay, app_store, feeds, google_play
from tests.stores.google_play import Release, release
from tests.stores.straight import StraightAppStore, StraightPlay

_HEALTHY = [{"http": "http://shop/health"}]
_ANDROID = {"google_play": {"package": google_play.APP}, "min_version": "{version}", "kill_switches": {"new": False}}
_IOS = {"app_store": {"app": app_store.APP}}
_STAGED = (release(41, "1", "completed"), release(42, "2", "inProgress", 0.2))
_SIGNATURE = "appcast.xml.sig"


class _Backends:
    """Everything that a rollback may change. Each request takes time."""

    def __init__(self, directory: Path, *releases: Release) -> None:
        self.now, self.feed = 0.0, directory / "updates" / "appcast.xml"
        for version in "123":
            kept = directory / "feeds" / version
            kept.mkdir(parents=True)
            (kept / "appcast.xml").write_bytes(feeds.appcast(version))
            (kept / _SIGNATURE).write_text(f"signature of {version}")
        self.feed.parent.mkdir()
        self.kept = directory / "feeds"
        self.publish("2")
        late: dict[str, Any] = {"takes": 0.5, "clock": lambda: self.now, "tick": self._tick}
        self.play, self.apple = FakePlay(*(releases or _STAGED), **late), FakeAppStore(**late)
        self.amazon = Amazon()
        for version in "123":
            self.amazon.s3.put(f"shop/feeds/{version}/RELEASES", feeds.releases(version))
        self.amazon.s3.put("shop/live/RELEASES", feeds.releases("2"), content_type="text/plain")
        self.clients: dict[type, Any] = {
            GooglePlay: StraightPlay(self.play),
            AppStore: StraightAppStore(self.apple),
            Aws: StraightAws(self.amazon),
            Local: Local(),
        }

    def _tick(self) -> None:
        self.now += 0.05

    def publish(self, version: str) -> None:
        for file in (self.kept / version).iterdir():
            self.feed.with_name(file.name).write_bytes(file.read_bytes())

    def wait(self, seconds: float) -> None:
        self.now += max(seconds, 0.1)

    def outside(self) -> dict[str, Any]:
        # Google Play lists 41 again once the full release above it is halted.
        ours = [code for release in self.play.commits[0][1] for code in release["versionCodes"]]
        return {
            "play": {code: share for code, share in self.play.shares().items() if code in ours},
            "apple": self.apple.state,
            "feed": self.feed.read_bytes(),
            "signature": self.feed.with_name(_SIGNATURE).read_text(),
            "object": self.amazon.s3.objects["shop/live/RELEASES"].body,
        }

    def contents(self) -> dict[str, Any]:
        return {
            "play": google_play.contents(self.play),
            "apple": app_store.contents(self.apple),
            "amazon": self.amazon.contents(),
            "files": tree(self.kept.parent),
        }

    def written(self) -> Any:
        state = self.outside()
        return state["play"], state["apple"], state["feed"], state["object"]

    def served(self, url: str) -> bytes:
        state = self.outside()
        return bytes(state["object"] if "s3" in url else state["feed"])

    def stranger(self, resource: Resource) -> Awaitable[Any]:
        async def act() -> Any:
            match resource.model_dump()["resource"]:
                case "play_release":
                    self.play.committed_by_another(release(42, "2", "inProgress", 0.5))
                    self.now += 1
                case "phased_release":
                    self.apple.set("COMPLETE")
                    self.now += 1
                case "update_feed":
                    self.publish("3")
                case "update_feed_object":
                    self.amazon.s3.put("shop/live/RELEASES", feeds.releases("3"))
            return await resource.read(self.clients[resource.client])

        return act()

    async def leave(self) -> None:
        await self.clients[GooglePlay].close()
        await self.clients[AppStore].close()
        await self.clients[Aws].close()


CHANGES = (
    *("/play/releases/42/status", "/play/releases/42/userFraction", "/apple/state"),
    *("/files/updates~1*/content", "/amazon/s3/objects/shop~1live~1RELEASES/body"),
)
MAY_DIFFER = {
    "/files/updates~1*/changed": "it is written anew",
    "/play/releases/41": "Google Play lists the release that it serves again",
}


def _stage(
    gateway: _Backends, rolled_back: dict[str, Any], outcome: str = "mitigated", **platforms: Any
) -> RollbackScenario:
    return shop(
        {"strategy": "frontend", "health_check_urls": ["http://front/"], **platforms},
        _HEALTHY,
        outside=gateway.outside,
        rolled_back=rolled_back,
        everything=Everything(gateway.contents, CHANGES, MAY_DIFFER),
        stranger=gateway.stranger,
        clients=gateway.clients,
        written=gateway.written,
        wait=gateway.wait,
        leave=gateway.leave,
        served=gateway.served,
        outcome=outcome,
    )


def _desktop(gateway: _Backends) -> dict[str, Any]:
    kept = f"{gateway.kept}/{{version}}"
    feed = {"file": str(gateway.feed), "kept": kept, "format": "sparkle", "beside": [_SIGNATURE]}
    return {"feed": feed, "urls": ["http://updates/appcast.xml"], "hold_for": "0s", "within": "3s"}


def _feed_of_1(gateway: _Backends) -> dict[str, Any]:
    return {"feed": feeds.appcast("1"), "signature": "signature of 1"}


def staged(directory: Path) -> RollbackScenario:
    gateway = _Backends(directory)
    return _stage(gateway, {"play": {"41": ("completed", None), "42": ("halted", 0.2)}}, android=_ANDROID)


def full(directory: Path) -> RollbackScenario:
    """Google Play then lists the release that it served before."""
    gateway = _Backends(directory, release(42, "2", "completed"))
    return _stage(gateway, {"play": {"42": ("halted", None)}}, android=_ANDROID)


def ios(directory: Path) -> RollbackScenario:
    return _stage(_Backends(directory), {"apple": "PAUSED"}, ios=_IOS)


def desktop(directory: Path) -> RollbackScenario:
    gateway = _Backends(directory)
    return _stage(gateway, _feed_of_1(gateway), "succeeded", desktop=_desktop(gateway))


def desktop_object(directory: Path) -> RollbackScenario:
    gateway = _Backends(directory)
    feed = {"object": "s3://shop/live/RELEASES", "kept": "s3://shop/feeds/{version}", "format": "squirrel"}
    options = {"feed": feed, "urls": ["http://s3/RELEASES"], "hold_for": "0s", "within": "3s"}
    return _stage(gateway, {"object": feeds.releases("1")}, "succeeded", desktop=options)


def apps(directory: Path) -> RollbackScenario:
    gateway = _Backends(directory)
    after = {"play": {"41": ("completed", None), "42": ("halted", 0.2)}, "apple": "PAUSED", **_feed_of_1(gateway)}
    return _stage(gateway, after, android=_ANDROID, ios=_IOS, desktop=_desktop(gateway))


STAGES = {
    "frontend_android_staged": staged,
    "frontend_android_full": full,
    "frontend_ios": ios,
    "frontend_desktop": desktop,
    "frontend_desktop_object": desktop_object,
    "frontend_apps": apps,
}
