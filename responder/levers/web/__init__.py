"""What a web frontend is served from, and what holds copies of it on the way to its users."""

from __future__ import annotations

from responder.levers.web.cloudflare import CloudflarePurge
from responder.levers.web.cloudfront import CloudfrontInvalidation, CloudfrontKey, OriginPath
from responder.levers.web.fastly import FastlyPurge, FastlyVersion
from responder.levers.web.live_prefix import LivePrefix
from responder.levers.web.pointer_object import PointerObject
from responder.levers.web.purge import Purge

__all__ = [
    "CloudflarePurge",
    "CloudfrontInvalidation",
    "CloudfrontKey",
    "FastlyPurge",
    "FastlyVersion",
    "LivePrefix",
    "OriginPath",
    "PointerObject",
    "Purge",
]
