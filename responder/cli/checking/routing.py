"""Checks whether the routes of an Alertmanager lead alerts to the responder. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import yaml

from responder.backends.alertmanager.matchers import Matcher, all_match, parse_matchers

_OURS = ("/api/v1/alerts", "/api/v2/alerts")

Labels = Mapping[str, str]


def without_route(configuration: str) -> bool:
    """Whether an Alertmanager has no route to this responder. False if unknown: it may hide webhook URLs."""
    try:
        root, is_ours = _loaded(configuration)
        return not any(map(is_ours, _receivers(root)))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        return False


def unrouted(configuration: str, alerts: Iterable[Labels]) -> list[Labels]:
    """The alerts that no route leads to the responder, whatever their other labels are. Empty if unknown."""
    try:
        root, is_ours = _loaded(configuration)
        return [labels for labels in alerts if not _arrives(root, root["receiver"], labels, is_ours)]
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        return []


def _loaded(configuration: str) -> tuple[dict[str, Any], Callable[[str], bool]]:
    """The root of the routes, and whether a receiver may be this responder."""
    loaded = yaml.safe_load(configuration)
    hooks = {receiver["name"]: receiver.get("webhook_configs") or () for receiver in loaded.get("receivers") or ()}
    return loaded["route"], lambda name: any(map(_may_be_ours, hooks.get(name, ())))


def _may_be_ours(hook: dict[str, Any]) -> bool:
    url = hook.get("url")
    return not isinstance(url, str) or "://" not in url or urlsplit(url).path.rstrip("/").endswith(_OURS)


def _receivers(route: dict[str, Any]) -> Iterator[str]:
    if "receiver" in route:
        yield route["receiver"]
    for child in route.get("routes") or ():
        yield from _receivers(child)


def _arrives(route: dict[str, Any], receiver: str, labels: Labels, is_ours: Callable[[str], bool]) -> bool:
    """Whether a route that takes the alert may lead it to the responder: by a child, or itself if no child takes it."""
    taken = False
    for child in route.get("routes") or ():
        takes_it = takes(_matchers(child), labels)
        if takes_it is False:
            continue
        if _arrives(child, child.get("receiver") or receiver, labels, is_ours):
            return True
        taken = taken or takes_it is True
        if takes_it and not child.get("continue"):
            return False
    return not taken and is_ours(receiver)


def _matchers(route: dict[str, Any]) -> list[Matcher]:
    matchers = [matcher for text in route.get("matchers") or () for matcher in parse_matchers(text)]
    for key, op in (("match", "="), ("match_re", "=~")):
        matchers += [Matcher(name, op, str(value)) for name, value in (route.get(key) or {}).items()]
    return matchers


def takes(matchers: Sequence[Matcher], known: Labels) -> bool | None:
    """Whether the matchers match an alert with these labels; None if that depends on its other labels."""
    deciding = [matcher for matcher in matchers if matcher.name in known]
    if not all_match(deciding, known):
        return False
    return True if len(deciding) == len(matchers) else None
