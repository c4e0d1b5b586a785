"""The platform `desktop`: an app that updates itself from a feed. The feed offers the good version again."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field, HttpUrl, Tag

from foundation.durations import Duration
from responder.backends.app_stores.update_feed import UpdateFeed, UpdateFeedObject
from responder.backends.http.http_check import HttpCheck
from responder.backends.sites.purge import Purge
from responder.config.unions import union_by_key
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Gate, StrategyPlan
from responder.rollback.strategies.frontend.platform import Platform, emptied
from responder.rollback.strategies.strategy import read_expecting, value_of
from responder.rollback.version_change import VersionChange

Feed = Annotated[
    Annotated[UpdateFeed, Tag("<file>")] | Annotated[UpdateFeedObject, Tag("<object>")],
    union_by_key("feed", "file", "object"),
]


class Desktop(Platform):
    """No further client gets the bad version. Updated clients keep it, unless the app downgrades itself."""

    feed: Feed = Field(description="The update feed of the app")
    urls: tuple[HttpUrl, ...] = Field(min_length=1, description="URLs that must serve the good feed")
    hold_for: Duration = Field(default=5.0, description="Time that all URLs must serve it")
    within: Duration = Field(default=300.0, gt=0, description="Deadline until all URLs serve it")

    async def plan(self, gateway: Gateway, target: VersionChange, cache: Purge | None) -> StrategyPlan:
        feed = self.feed
        before = await read_expecting(gateway, feed, target)
        to, notes = await value_of(gateway, feed, target)
        kept = await gateway.ask(feed, lambda client: feed.kept_feed(client, str(to)))
        sha256 = hashlib.sha256(kept[feed.name].body).hexdigest()
        changes = await emptied(gateway, target, cache, Change(resource=feed, before=before, after=to))
        gate = Gate(
            name=f"clients get feed {to}",
            checks=tuple(HttpCheck(http=url, sha256=sha256, every_address=True) for url in self.urls),
            hold_for=self.hold_for,
            within=self.within,
        )
        remains = f"desktop apps that have updated to {target.from_version} keep it: the feed offers no higher version"
        return StrategyPlan(steps=(*changes.steps, gate), notes=(*notes, remains, *changes.notes))
