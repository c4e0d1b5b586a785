"""A desktop app that updates itself: its feed offers the good version again, and is believed once clients get it."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field, HttpUrl, Tag

from responder.checks import HttpCheck
from responder.durations import Duration
from responder.levers.stores import UpdateFeed, UpdateFeedObject
from responder.levers.web import Purge
from responder.plan import Draft, Gate, Move
from responder.strategies.frontend.platform import Platform, emptied
from responder.strategies.strategy import Target, read_expecting, value_of
from responder.tagged import told_by_key
from responder.world import World

Feed = Annotated[
    Annotated[UpdateFeed, Tag("<file>")] | Annotated[UpdateFeedObject, Tag("<object>")],
    told_by_key("feed", "file", "object"),
]


class Desktop(Platform):
    """Whoever has updated keeps the bad version, unless the app itself goes down; nobody else gets it any more."""

    feed: Feed = Field(description="What the app asks for updates")
    urls: tuple[HttpUrl, ...] = Field(min_length=1, description="Where clients get the feed: it must be the good one")
    hold_for: Duration = Field(default=5.0, description="How long all of them must be so without a break")
    within: Duration = Field(default=300.0, gt=0, description="Deadline for that")

    async def draft(self, world: World, target: Target, cache: Purge | None) -> Draft:
        feed = self.feed
        was = await read_expecting(world, feed, target)
        to, notes = await value_of(world, feed, target)
        kept = await world.ask(feed, lambda client: feed.kept_feed(client, str(to)))
        sha256 = hashlib.sha256(kept[feed.name].body).hexdigest()
        moves = await emptied(world, target, cache, Move(lever=feed, was=was, to=to))
        gate = Gate(
            name=f"clients get the feed of {to}",
            checks=tuple(HttpCheck(http=url, sha256=sha256, every_address=True) for url in self.urls),
            hold_for=self.hold_for,
            within=self.within,
        )
        stays = f"desktop apps that have updated to {target.from_version} keep it: the feed offers them nothing higher"
        return Draft(steps=(*moves.steps, gate), notes=(*notes, stays, *moves.notes))
