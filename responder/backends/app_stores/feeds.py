"""The version in an update feed of Sparkle, Squirrel or electron-updater. Pure functions."""

from __future__ import annotations

import re
from typing import Any, Literal
from xml.etree import ElementTree as ET

import yaml

from responder.errors import StepFailed

FeedFormat = Literal["sparkle", "squirrel", "electron"]
_SPARKLE = "{http://www.andymatuschak.org/xml-namespaces/sparkle}"
_LARGEST = 4 << 20
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


def staged_for(form: FeedFormat, feed: bytes) -> str:
    """Returns the share of users to whom a valid feed offers its version, such as `20 %`; empty for all users."""
    text = feed.decode("utf-8-sig")
    if form == "electron":
        share = yaml.safe_load(text).get("stagingPercentage")
        return f"{share} %" if isinstance(share, int | float) and share < 100 else ""
    if form == "squirrel":
        offered = _squirrel(text)
        lines = (line for line in text.splitlines() if f"-{offered}-full.nupkg" in line)
        return next((f"{found[1]} %" for line in lines if (found := _STAGED.search(line))), "")
    return ""


def _sparkle(text: str) -> str:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it declares entities, which are not allowed")
    root = ET.fromstring(text)  # noqa: S314 - size and entities are checked above
    best: tuple[list[tuple[int, int | str]], str] | None = None
    for item in root.iter("item"):
        if item.find(f"{_SPARKLE}channel") is not None:
            continue  # a beta, offered only to clients that request its channel
        build, short = (_value(item, name) for name in ("version", "shortVersionString"))
        if build and (best is None or _order(build) > best[0]):
            best = _order(build), short or build
    return best[1] if best else ""


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
