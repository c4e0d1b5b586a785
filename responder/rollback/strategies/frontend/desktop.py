"""A desktop app that updates itself: its feed offers the good version again, and is believed once clients get it."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field, HttpUrl, Tag

from responder.backends.app_stores.update_feed import UpdateFeed, UpdateFeedObject
from responder.backends.http.http_check import HttpCheck
from responder.backends.sites.purge import Purge
from responder.config.durations import Duration
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
    """Whoever has updated keeps the bad version, unless the app itself goes down; nobody else gets it any more."""

    feed: Feed = Field(description="What the app asks for updates")
    urls: tuple[HttpUrl, ...] = Field(min_length=1, description="Where clients get the feed: it must be the good one")
    hold_for: Duration = Field(default=5.0, description="How long all of them must be so without a break")
    within: Duration = Field(default=300.0, gt=0, description="Deadline for that")

    async def plan(self, gateway: Gateway, target: VersionChange, cache: Purge | None) -> StrategyPlan:
        feed = self.feed
        before = await read_expecting(gateway, feed, target)
        to, notes = await value_of(gateway, feed, target)
        kept = await gateway.ask(feed, lambda client: feed.kept_feed(client, str(to)))
        sha256 = hashlib.sha256(kept[feed.name].body).hexdigest()
        changes = await emptied(gateway, target, cache, Change(resource=feed, before=before, after=to))
        gate = Gate(
            name=f"clients get the feed of {to}",
            checks=tuple(HttpCheck(http=url, sha256=sha256, every_address=True) for url in self.urls),
            hold_for=self.hold_for,
            within=self.within,
        )
        stays = f"desktop apps that have updated to {target.from_version} keep it: the feed offers them nothing higher"
        return StrategyPlan(steps=(*changes.steps, gate), notes=(*notes, stays, *changes.notes))
