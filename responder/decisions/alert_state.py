"""The live state of an incident, queried from Alertmanager and Prometheus before a decision and before each change."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from responder.backends.alertmanager.client import Alertmanager
from responder.backends.alertmanager.live_alerts import LiveAlert, LiveAlerts
from responder.backends.alertmanager.matchers import all_match
from responder.backends.connections import Connections
from responder.backends.prometheus.client import Prometheus, Sample
from responder.backends.prometheus.trouble_check import concerning, selector
from responder.decisions.facts import Facts, LiveState
from responder.decisions.incidents import Incident
from responder.decisions.limits import Watchdog
from responder.decisions.policy_set import PolicySet
from responder.decisions.trouble import (
    QUESTION,
    RECORDED,
    Recordings,
    common_labels,
    marked,
    query_trouble,
    questions,
    visible,
)
from responder.errors import StepFailed, Unavailable
from responder.rollback.gateway import Gateway
from responder.services.service import Service


async def query_live_state(
    incident: Incident, facts: Facts, policy_set: PolicySet, connections: Connections
) -> LiveState:
    """The live state of the incident, its service and the watchdog. An unknown state never allows a rollback."""
    alerts, past, disarmed, failing = await asyncio.gather(
        query_alerts(incident, policy_set, connections, facts.returned_at),
        _past(incident, facts, policy_set, connections),
        _disarmed(incident, policy_set, connections),
        _needs_failing(incident, facts.service, policy_set, connections),
    )
    live = alerts if alerts.state != "firing" or past.state == "firing" else past
    return live.model_copy(
        update={
            "disarmed": disarmed,
            "began_at": past.began_at,
            "older_trouble": past.older_trouble,
            "trouble_now": past.trouble_now,
            "needs_failing": failing,
        }
    )


async def query_alerts(
    incident: Incident, policy_set: PolicySet, connections: Connections, returned_at: datetime | None = None
) -> LiveState:
    """Whether the incident's alerts fire and are not muted, and which other services are in trouble.

    Alertmanager answers first: it knows all alerts of a storm when it sends the first webhook. Prometheus' `ALERTS`
    counts for alerts that it does not know, such as those that vmalert and Grafana send directly. Without an answer the
    state is `unknown`, which never allows a rollback.
    """
    if not incident.alerts:
        return LiveState(state="firing", reason=f"requested by {incident.requested_by}")
    labels = common_labels(incident.alerts)
    fingerprints = {alert.fingerprint for alert in incident.alerts}
    try:
        alertmanager = await connections.to(Alertmanager)
        everyone = await alertmanager.alerts({k: v for k, v in labels.items() if k == "environment"})
        others = _others_in_trouble(everyone, incident, policy_set, returned_at)
        present = everyone.with_fingerprints(fingerprints)
        if present and all(alert.state == "suppressed" for alert in present):
            return LiveState(state="suppressed", reason=await who_muted(present, alertmanager, everyone))
        if present:
            return LiveState(state="firing", reason="firing in Alertmanager", also_in_trouble=others)
        if reason := await _prometheus_says(labels, connections):
            # Alertmanager may have lost the alert, such as after a restart. A silence for it still counts.
            silences = [await alertmanager.silencing(alert.labels) for alert in incident.alerts]
            if all(silences):
                reasons = dict.fromkeys(str(silence) for found in silences for silence in found)
                return LiveState(state="suppressed", reason="; ".join(reasons))
            return LiveState(state="firing", reason=reason, also_in_trouble=others)
    except (Unavailable, StepFailed) as e:
        return LiveState(state="unknown", reason=str(e))
    return LiveState(state="gone", reason="firing in neither Alertmanager nor Prometheus")


async def _prometheus_says(labels: dict[str, str], connections: Connections) -> str:
    """How Prometheus shows that the alert fires; empty if it does not.

    The shipped alerts are joined with the deployments that the responder exports, and stop firing while the responder
    cannot be scraped. The recorded trouble remains.
    """
    prometheus = await connections.to(Prometheus)
    firing, recorded = selector("ALERTS", {**labels, "alertstate": "firing"}), selector(RECORDED, labels)
    found = await prometheus.query(f"{firing} or {recorded}")
    if any("alertstate" in sample.labels for sample in found):
        return "firing in Prometheus, unknown to Alertmanager"
    if found:
        return "the trouble is still recorded, although the alert stopped firing: was the responder not scraped?"
    return ""


def _others_in_trouble(
    alerts: LiveAlerts, incident: Incident, policy_set: PolicySet, returned_at: datetime | None
) -> tuple[str, ...]:
    """Other services that policies would roll back for alerts that began close to these, silenced or not.

    At most `limits.circuit_breaker.counted`.
    """
    starts = alerts.derived(policy_set, lambda alerts: _Starts(alerts, policy_set))
    began = min(alert.starts_at for alert in incident.alerts)
    breaker, connected = policy_set.limits.circuit_breaker, policy_set.connected_services(incident)
    moments = [began, *([returned_at] if returned_at else [])]
    found = starts.around(moments, breaker.within, breaker.counted + len(connected))
    return tuple(sorted(found - connected)[: breaker.counted])


class _Starts:
    """When the alerts began for which policies would roll back services, in order."""

    def __init__(self, alerts: LiveAlerts, policy_set: PolicySet) -> None:
        self._undated: set[str] = set()
        dated: set[tuple[float, str]] = set()
        # Alerts of one service differ only in labels that no policy uses.
        known: dict[tuple[str, ...], list[str]] = {}
        used = policy_set.used_labels
        for alert in alerts:
            key = tuple([alert.labels.get(name, "") for name in used])
            names = known.get(key)
            if names is None:
                names = known[key] = _rolled_back_for(alert.labels, policy_set)
            for name in names:
                if alert.starts_at is None:
                    self._undated.add(name)
                else:
                    dated.add((alert.starts_at.timestamp(), name))
        self._dated = sorted(dated)

    def around(self, moments: Iterable[datetime], within: float, most: int) -> set[str]:
        """The services of alerts that began at most `within` seconds before or after any of the moments.

        It stops looking when it has found `most` of them.
        """
        found = set(self._undated)
        for moment in moments:
            at = moment.timestamp()
            first = bisect_left(self._dated, (at - within, ""))
            for number in range(first, bisect_right(self._dated, at + within, key=lambda start: start[0])):
                if len(found) >= most:
                    break
                found.add(self._dated[number][1])
        return found


def _rolled_back_for(labels: Mapping[str, str], policy_set: PolicySet) -> list[str]:
    """The configured services that the policy for an alert rolls back, unless the policy has `force`."""
    policy = policy_set.index.first(labels)
    if policy is None or policy.force or policy_set.is_watchdog(labels):
        return []
    environment = labels.get("environment", "")
    named = (policy_set.service(name, environment)[0] for name in policy.services_of(labels))
    return [service.name for service in named if service]


async def query_watchdog(watchdog: Watchdog, connections: Connections) -> LiveState:
    """Whether the watchdog is silenced, which disarms automation."""
    exact = {m.name: m.value for m in watchdog.match if m.op == "="}
    try:
        alertmanager = await connections.to(Alertmanager)
        watchdogs = [a for a in await alertmanager.alerts(exact) if all_match(watchdog.match, a.labels)]
        if muted := [alert for alert in watchdogs if alert.state == "suppressed"]:
            reason = f"the watchdog alert is muted: {await who_muted(muted, alertmanager, muted)}"
            return LiveState(state="suppressed", reason=reason)
    except Unavailable as e:
        return LiveState(state="unknown", reason=f"cannot tell whether the watchdog alert is silenced: {e}")
    return LiveState(state="firing", reason="the watchdog alert is not silenced")


async def _disarmed(incident: Incident, policy_set: PolicySet, connections: Connections) -> str:
    if policy_set.watchdog is None or incident.forced:
        return ""
    watchdog = await query_watchdog(policy_set.watchdog, connections)
    return "" if watchdog.state == "firing" else watchdog.reason


async def who_muted(alerts: list[LiveAlert], alertmanager: Alertmanager, known: Iterable[LiveAlert]) -> str:
    """Why these alerts are muted: author, comment and end of each silence, and the names of inhibiting alerts."""
    why = [str(await alertmanager.silence(i)) for alert in alerts[:3] for i in alert.silenced_by[:2]]
    inhibiting = {i for alert in alerts[:3] for i in alert.inhibited_by[:2]}
    if inhibiting - {alert.fingerprint for alert in known}:  # from another environment, or without one
        known = await alertmanager.alerts({})
    named = {alert.fingerprint: _named(alert) for alert in known}
    why += sorted(
        f"inhibited by {named.get(fingerprint, f'an alert that no longer exists ({fingerprint})')}"
        for fingerprint in inhibiting
    )
    return "; ".join(dict.fromkeys(why)) or "Alertmanager does not name the silence"


def _named(alert: LiveAlert) -> str:
    """The alert by name, with service and environment if it has them."""
    labels = alert.labels
    return " ".join(
        [
            labels.get("alertname", "an alert without a name"),
            *([f"of {labels['service']}"] if labels.get("service") else []),
            *([f"in {labels['environment']}"] if labels.get("environment") else []),
        ]
    )


async def _past(incident: Incident, facts: Facts, policy_set: PolicySet, connections: Connections) -> LiveState:
    """When the alerts became active, what shows older trouble, and whether the trouble is visible now.

    Prometheus may not know when they became active, such as with vmalert.
    """
    running, suspected = facts.running, facts.suspected
    if incident.forced or facts.service is None:
        return LiveState(state="firing", reason="")
    if running is None or suspected is None:
        return LiveState(state="firing", reason="", trouble_now=await query_trouble(incident, policy_set, connections))
    labels, at = common_labels(incident.alerts), _just_before(facts, suspected.at)
    # One query: each costs as much as the rest of a decision.
    before = [selector("ALERTS", {**labels, "alertstate": "firing"}), selector(RECORDED, labels)]
    if facts.verified_at:
        before = []  # their windows may include the time before that rollback, which verified the service
    past_queries = [marked(f"{what} @ {at.timestamp():.3f}", "before") for what in before]
    query = " or ".join([selector("ALERTS_FOR_STATE", labels), *past_queries, *questions(labels)])
    expression = incident.policy.expression
    try:
        prometheus = await connections.to(Prometheus)
        now, *earlier = await asyncio.gather(
            prometheus.query(query), *([prometheus.query(expression, at=at)] if expression else [])
        )
    except (Unavailable, StepFailed) as e:
        return LiveState(state="unknown", reason=f"cannot tell when the trouble began: {e}")
    since = [sample for sample in now if QUESTION not in sample.labels]
    signs = [_fired_before(sample) for sample in now if sample.labels.get(QUESTION) == "before"]
    signs += [
        f"the `expression` of policy {incident.policy.name} had a result"
        for found in earlier
        if concerning(found, running.service, running.environment)
    ]
    return LiveState(
        state="firing",
        reason="",
        began_at=min((datetime.fromtimestamp(s.value, UTC) for s in since), default=None),
        older_trouble=f"{signs[0]} at {at:%H:%M:%S} UTC, before {suspected.version} was deployed" if signs else "",
        trouble_now=await visible(incident, Recordings(now), policy_set, connections),
    )


def _just_before(facts: Facts, deployed_at: datetime) -> datetime:
    """The last moment before the deployment can have had an effect; not before the service was verified healthy."""
    delay = facts.service.reporting_delay if facts.service else 0.0
    at = deployed_at - timedelta(seconds=delay)
    return max(at, facts.verified_at) if facts.verified_at else at


def _fired_before(sample: Sample) -> str:
    name = sample.labels.get("alertname", "this alert")
    recorded = sample.labels.get("__name__") == RECORDED
    return f"the trouble of {name} was already recorded" if recorded else f"{name} was already firing"


async def _needs_failing(
    incident: Incident, service: Service | None, policy_set: PolicySet, connections: Connections
) -> tuple[str, ...]:
    """Dependencies with a health check that fails or does not answer, each with the reason."""
    gateway = Gateway(connections)
    needed = policy_set.needs(service) if service and not incident.forced else []
    needed = [dependency for dependency in needed if dependency.name not in incident.together]
    findings = await asyncio.gather(
        *(gateway.holds(check) for dependency in needed for check in dependency.health_checks)
    )
    names = [dependency.name for dependency in needed for _ in dependency.health_checks]
    return tuple(f"{name} ({f.reason})" for name, f in zip(names, findings, strict=True) if not f.holds)
