"""Checks whether the loaded alert rules and routes lead to a policy. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import yaml

from responder.backends.alertmanager.matchers import Matcher, all_match
from responder.backends.problems import Problem
from responder.backends.prometheus.trouble_check import EVALUATED, NOW
from responder.decisions.policies import Policy

_OFFERS = ("rollback", "true")
_OURS = ("/api/v1/alerts", "/api/v2/alerts")


def unmatched_rules(groups: Iterable[Any], policies: Sequence[Policy]) -> Iterator[Problem]:
    """Alerting rules that offer a rollback but can match no policy."""
    for where, _, labels in _offering(groups):
        if not any(policy.actions and _may_match(policy.match, labels) for policy in policies):
            fix = "add a policy that matches it, such as match: ['rollback=\"true\"'], or remove the label"
            yield Problem(where, 'has the label rollback="true", and no policy matches it', fix)


def unrecorded_rules(groups: Sequence[Any], policies: Sequence[Policy]) -> Iterator[Problem]:
    """Alerting rules that offer a rollback but do not record the current trouble."""
    rules = [rule for group in groups for rule in group.get("rules", ()) if rule.get("name") in (NOW, EVALUATED)]
    recorded = {(rule["name"], rule.get("labels", {}).get("alertname")) for rule in rules}
    for where, rule, labels in _offering(groups):
        policy = next((candidate for candidate in policies if _may_match(candidate.match, labels)), None)
        missing = [name for name in (NOW, EVALUATED) if (name, labels["alertname"]) not in recorded]
        if not missing or policy is None or policy.roll_back is None or policy.force:
            continue
        # With only one of the two, or with the long window recorded, the responder relies on recordings and never acts.
        if len(missing) == 1 or "service_environment:trouble{" in str(rule.get("query", "")):
            finding = f"has no recording rule {' and '.join(missing)}"
            yield Problem(where, finding, "load the alert rules of this release")
        elif not policy.expression:
            finding = f"only its window shows the trouble, and policy {policy.name} has no `expression`"
            fix = "add one with a short window; until then the policy acts only while a health or traffic check fails"
            yield Problem(where, finding, fix)


def _offering(groups: Iterable[Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Each alerting rule that offers a rollback: its location, the rule, and the labels of its alerts."""
    for group in groups:
        for rule in group.get("rules", ()):
            labels = {"alertname": str(rule.get("name", "")), **rule.get("labels", {})}
            if rule.get("type") == "alerting" and labels.get(_OFFERS[0]) == _OFFERS[1]:
                yield f"rule {labels['alertname']} in group {group.get('name', '')}", rule, labels


def _may_match(matchers: Sequence[Matcher], labels: dict[str, str]) -> bool:
    """Whether the matchers can match. Labels from the series or from a template can have any value."""
    known = {name: value for name, value in labels.items() if "{{" not in value}
    return all_match([matcher for matcher in matchers if matcher.name in known], known)


def without_route(configuration: str) -> bool:
    """Whether an Alertmanager has no route to this responder. False if unknown: it may hide webhook URLs."""
    try:
        loaded = yaml.safe_load(configuration)
        named = {receiver["name"]: receiver.get("webhook_configs") or () for receiver in loaded.get("receivers") or ()}
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
