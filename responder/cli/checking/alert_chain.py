"""Checks whether alert rules lead to a policy. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from responder.backends.problems import Problem
from responder.backends.prometheus.trouble_check import EVALUATED, NOW
from responder.cli.checking.routing import takes
from responder.decisions.limits import Watchdog
from responder.decisions.policies import Policy

Labels = dict[str, str]

_OFFERS = ("rollback", "true")
_REQUEST = {"alertname": "RollbackRequested"}


def expected_alerts(groups: Iterable[Any], policies: Sequence[Policy], watchdog: Watchdog | None) -> list[Labels]:
    """The known labels of alerts that must arrive: the watchdog, requests by hand, and offers that policies take."""
    alerts = [{m.name: m.value for m in watchdog.match if m.op == "="}] if watchdog else []
    if any(m.name == "alertname" and m.op in ("=", "=~") and m.matches(_REQUEST) for p in policies for m in p.match):
        alerts.append(_REQUEST)
    return alerts + [_known(labels) for _, _, labels in _offering(groups) if _acting(policies, labels)]


def unmatched_rules(groups: Iterable[Any], policies: Sequence[Policy]) -> Iterator[Problem]:
    """Alerting rules that offer a rollback but can reach no policy that acts."""
    for where, _, labels in _offering(groups):
        if not _acting(policies, labels):
            fix = "add a policy that matches it, such as match: ['rollback=\"true\"'], or remove the label"
            yield Problem(where, 'has the label rollback="true", and no policy matches it', fix)


def _acting(policies: Sequence[Policy], labels: Labels) -> bool:
    """Whether a policy that acts can be the first to match."""
    for policy in policies:
        matches = takes(policy.match, _known(labels))
        if matches is not False and policy.actions:
            return True
        if matches:
            return False
    return False


def unrecorded_rules(groups: Sequence[Any], policies: Sequence[Policy]) -> Iterator[Problem]:
    """Alerting rules that offer a rollback but do not record the current trouble."""
    rules = [rule for group in groups for rule in group.get("rules", ()) if rule.get("name") in (NOW, EVALUATED)]
    recorded = {(rule["name"], rule.get("labels", {}).get("alertname")) for rule in rules}
    for where, rule, labels in _offering(groups):
        policy = next((found for found in policies if takes(found.match, _known(labels)) is not False), None)
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


def _known(labels: Labels) -> Labels:
    """Without those from a template, which can have any value, as those from the series."""
    return {name: value for name, value in labels.items() if "{{" not in value}
