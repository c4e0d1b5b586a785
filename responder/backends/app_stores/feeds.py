"""Which version an update feed offers, in the ways in which Sparkle, Squirrel and electron-updater write them. Pure."""

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


def version_in(form: FeedFormat, feed: bytes) -> str:
    """The version that a client would update to. Raises Halt where it is no such feed."""
    if len(feed) > _LARGEST:
        raise StepFailed(f"it has {len(feed)} bytes, more than an update feed ever has")
    try:
        text = feed.decode("utf-8-sig")
        found = {"sparkle": _sparkle, "squirrel": _squirrel, "electron": _electron}[form](text)
    except (ValueError, ET.ParseError, yaml.YAMLError, AttributeError, TypeError) as e:
        raise StepFailed(
            f"it is no feed of the format {form}: {str(e).splitlines()[0] if str(e) else 'malformed'}"
        ) from None
    if not found:
        raise StepFailed(f"it is no feed of the format {form} that offers a version")
    return found


def _sparkle(text: str) -> str:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it declares entities, which no appcast needs")
    root = ET.fromstring(text)  # noqa: S314 - size and entities are looked at above
    best: tuple[list[tuple[int, int | str]], str] | None = None
    for item in root.iter("item"):
        if item.find(f"{_SPARKLE}channel") is not None:
            continue  # a beta, which only some ask for
        build, short = (_told(item, name) for name in ("version", "shortVersionString"))
        if build and (best is None or _order(build) > best[0]):
            best = _order(build), short or build
    return best[1] if best else ""


def _told(item: ET.Element, name: str) -> str:
    """As an element, or as the attribute of its enclosure that it was before."""
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
    """Numbers by their value; a pre-release, as 2.0-beta, before what it leads to."""
    parts = re.findall(r"\d+|[A-Za-z]+", version)
    return [(1, int(part)) if part.isdigit() else (-1, part) for part in parts] + [(0, 0)]
