"""The version in an update feed of Sparkle, Squirrel or electron-updater. Pure functions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from xml.etree import ElementTree as ET

import yaml

from responder.errors import StepFailed

FeedFormat = Literal["sparkle", "squirrel", "electron"]
_SPARKLE = "{http://www.andymatuschak.org/xml-namespaces/sparkle}"
_LARGEST = 4 << 20
_GROUPS = 7
_FULL = re.compile(r"^[0-9A-Fa-f]{40}\s+\S*?-(\d\S*)-full\.nupkg\s+\d+", re.MULTILINE)

_STAGED = re.compile(r"#\s*(\d{1,2})\s*%")


def version_in(form: FeedFormat, feed: bytes) -> str:
    """Returns the version to which a client would update. Raises StepFailed for anything but a valid feed."""
    if len(feed) > _LARGEST:
        raise StepFailed(f"it has {len(feed)} bytes, expected at most {_LARGEST}")
    try:
        text = feed.decode("utf-8-sig")
        found = {"sparkle": _sparkle, "squirrel": _squirrel, "electron": _electron}[form](text)
    except (ValueError, ET.ParseError, yaml.YAMLError, AttributeError, TypeError) as e:
        raise StepFailed(
            f"it is not a feed in {form} format: {str(e).splitlines()[0] if str(e) else 'malformed'}"
        ) from None
    if not found:
        raise StepFailed(f"it is a feed in {form} format that offers no version")
    return found


def staged_for(form: FeedFormat, feed: bytes, now: datetime) -> str:
    """Returns the share of users to whom a valid feed offers its version, such as `20 %`; empty for all users."""
    text = feed.decode("utf-8-sig")
    if form == "sparkle":
        return _phase(_offered(text), now)
    if form == "electron":
        share = yaml.safe_load(text).get("stagingPercentage")
        return f"{share} %" if isinstance(share, int | float) and share < 100 else ""
    if form == "squirrel":
        offered = _squirrel(text)
        lines = (line for line in text.splitlines() if f"-{offered}-full.nupkg" in line)
        return next((f"{found[1]} %" for line in lines if (found := _STAGED.search(line))), "")
    return ""


def _sparkle(text: str) -> str:
    best = _offered(text)
    return "" if best is None else _value(best, "shortVersionString") or _value(best, "version")


def _offered(text: str) -> ET.Element | None:
    """Returns the item with the highest build. Items of a channel, such as a beta, need a client that requests it."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it declares entities, which are not allowed")
    root = ET.fromstring(text)  # noqa: S314 - size and entities are checked above
    items = [item for item in root.iter("item") if item.find(f"{_SPARKLE}channel") is None and _value(item, "version")]
    return max(items, key=lambda item: _order(_value(item, "version")), default=None)


def _phase(item: ET.Element | None, now: datetime) -> str:
    """Returns the share of users whose group may update. Sparkle lets one of 7 groups follow after each interval."""
    if item is None or item.find(f".//{_SPARKLE}criticalUpdate") is not None:
        return ""
    try:
        if (interval := int(_value(item, "phasedRolloutInterval") or 0)) <= 0:
            return ""
        published = parsedate_to_datetime(item.findtext("pubDate", "").strip())
    except ValueError:
        return ""  # without a date or an interval Sparkle offers it to all users
    passed = (now - (published if published.tzinfo else published.replace(tzinfo=UTC))).total_seconds()
    groups = min(max(int(passed // interval) + 1, 0), _GROUPS)
    return "" if groups == _GROUPS else f"{100 * groups / _GROUPS:.0f} %"


def _value(item: ET.Element, name: str) -> str:
    """Returns the value of an element, or of the older attribute of the enclosure."""
    enclosure = item.find("enclosure")
    text = item.findtext(f"{_SPARKLE}{name}") or (enclosure.get(f"{_SPARKLE}{name}") if enclosure is not None else "")
    return (text or "").strip()


def _squirrel(text: str) -> str:
    return max(_FULL.findall(text), key=_order, default="")


def _electron(text: str) -> str:
    document: Any = yaml.safe_load(text)
    version = document.get("version")
    return version if isinstance(version, str) else ""


def _order(version: str) -> list[tuple[int, int | str]]:
    """Returns a sort key: numbers by value, a pre-release such as 2.0-beta before its release."""
    parts = re.findall(r"\d+|[A-Za-z]+", version)
    return [(1, int(part)) if part.isdigit() else (-1, part) for part in parts] + [(0, 0)]
