"""What can be set about an app that is out: a store's release, its phased release, the feed of its updates."""

from __future__ import annotations

from responder.levers.stores.phased_release import PhasedRelease
from responder.levers.stores.play_release import PlayRelease
from responder.levers.stores.update_feed import UpdateFeed, UpdateFeedObject

__all__ = ["PhasedRelease", "PlayRelease", "UpdateFeed", "UpdateFeedObject"]
