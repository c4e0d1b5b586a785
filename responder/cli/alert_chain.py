"""Whether what Prometheus and Alertmanager have loaded leads to a policy. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import yaml

from responder.matching import Matcher, all_match
from responder.policies import Policy
from responder.problems import Problem

_OFFERS = ("rollback", "true")
_OURS = ("/api/v1/alerts", "/api/v2/alerts")


def unmatched_rules(groups: Iterable[Any], policies: Sequence[Policy]) -> Iterator[Problem]:
    """The alerting rules that offer a rollback and that no policy takes, whatever labels their series have."""
    for group in groups:
        for rule in group.get("rules", ()):
            labels = {"alertname": str(rule.get("name", "")), **rule.get("labels", {})}
            if rule.get("type") != "alerting" or labels.get(_OFFERS[0]) != _OFFERS[1]:
                continue
            if not any(policy.actions and _may_match(policy.match, labels) for policy in policies):
                where = f"rule {labels['alertname']} in group {group.get('name', '')}"
                fix = "match it with a policy, as by match: ['rollback=\"true\"'], or take the label away"
                yield Problem(where, 'has the label rollback="true", and no policy matches it', fix)


def _may_match(matchers: Sequence[Matcher], labels: dict[str, str]) -> bool:
    """Whether they can hold: labels that come from the series, or from a template, can have any value."""
    known = {name: value for name, value in labels.items() if "{{" not in value}
    return all_match([one for one in matchers if one.name in known], known)


def without_route(configuration: str) -> bool:
    """Whether an Alertmanager certainly has no route to a webhook of ours. It may hide the addresses of webhooks."""
    try:
        loaded = yaml.safe_load(configuration)
        named = {one["name"]: one.get("webhook_configs") or () for one in loaded.get("receivers") or ()}
        return not any(_may_be_ours(hook) for name in _receivers(loaded["route"]) for hook in named.get(name, ()))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        return False


def _may_be_ours(hook: dict[str, Any]) -> bool:
    url = hook.get("url")
    return not isinstance(url, str) or "://" not in url or urlsplit(url).path.rstrip("/").endswith(_OURS)


def _receivers(route: dict[str, Any]) -> Iterator[str]:
    if "receiver" in route:
        yield route["receiver"]
    for child in route.get("routes") or ():
        yield from _receivers(child)
