"""What `check` recommends: settings that are allowed, but risky or incomplete."""

from __future__ import annotations

from collections.abc import Iterator

from foundation.durations import format_duration
from responder.app.settings import Config
from responder.backends.alertmanager.matchers import Matcher, all_match
from responder.backends.host.release import CurrentRelease, PointerFile
from responder.backends.prometheus.trouble_check import NOW
from responder.decisions.policies import Policy
from responder.rollback.strategies import resources_of
from responder.services.service import Service

Hint = tuple[tuple[int | str, ...], str]
"""The path of a setting, and the recommendation."""

SHIPPED = frozenset({"ServiceFailing", "HighErrorRate", "LatencyHigh", "ErrorRateRegressed"})
"""The shipped alerts that offer a rollback. Their rules record the current trouble."""

_SHORTEST_BAKE = 30.0


def hints_for(config: Config) -> Iterator[Hint]:
    """Every recommendation."""
    automatic = [(n, policy) for n, policy in enumerate(config.policies) if policy.mode == "auto" and not policy.force]
    if automatic and config.watchdog is None:
        hint = "not configured: missing alerts are not detected, and no silence can stop all automatic rollbacks"
        yield ("watchdog",), hint
    web = config.web
    if web.external_url is None and any(channel.includes_links for channel in config.notify.channels.values()):
        yield ("web", "external_url"), "without it, links in notifications lead to the listen address"
    for n, policy in enumerate(config.policies):
        if policy.roll_back and not policy.force and not policy.expression and not _takes_shipped(policy):
            hint = (
                f"policy {policy.name} has none. For alerts whose rules do not record {NOW}, as the shipped rules do, "
                "it acts only while a health or traffic check of the service fails. This is safe, but may be too "
                "cautious"
            )
            yield ("policies", n, "expression"), hint
    if not web.loopback and web.external_url is None and not web.allowed_hosts:
        yield ("web", "listen"), f"{web.listen}: requests with a host name are denied until web.allowed_hosts lists it"
    yield from _disputed_matchers(config)
    for n, service in enumerate(config.services):
        yield from ((("services", n, "rollback"), hint) for hint in _without_restart(service))
    for n, policy in automatic:
        if policy.verify.bake < _SHORTEST_BAKE:
            bake = format_duration(policy.verify.bake)
            yield ("policies", n, "verify", "for"), f"within {bake} a service that is still starting may pass"


def _disputed_matchers(config: Config) -> Iterator[Hint]:
    """Matchers that probably never match, or that newer Alertmanagers read otherwise in a route or a silence."""
    lists: list[tuple[tuple[int | str, ...], tuple[Matcher, ...]]] = []
    for n, policy in enumerate(config.policies):
        lists.append((("policies", n, "match"), policy.match))
        for i, alerts in enumerate(policy.silence_collateral):
            lists.append((("policies", n, "silence_collateral", i, "match"), alerts.match))
    if config.watchdog:
        lists.append((("watchdog", "match"), config.watchdog.match))
    yield from ((path, note) for path, matchers in lists for note in dict.fromkeys(m.note for m in matchers) if note)


def _takes_shipped(policy: Policy) -> bool:
    """Whether a policy matches by the label of the shipped rules, or only the names of shipped alerts."""
    of_label = [matcher for matcher in policy.match if matcher.name == "rollback"]
    named = [
        matcher.value.split("|")
        for matcher in policy.match
        if matcher.name == "alertname" and matcher.op in ("=", "=~")
    ]
    is_offer = all_match(of_label, {"rollback": "true"}) and not all_match(of_label, {})
    return is_offer or any(set(names) <= SHIPPED for names in named)


def _without_restart(service: Service) -> Iterator[str]:
    for strategy in (service.rollback, *service.alternatives):
        for resource in resources_of(strategy):
            if isinstance(resource, CurrentRelease | PointerFile) and not resource.restart:
                yield resource.nothing_follows
