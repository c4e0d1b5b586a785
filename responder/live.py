"""What the outside says now, asked where nothing in the journal speaks against a rollback, and before every act."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from responder.clients import Connections
from responder.clients.alertmanager import Alertmanager, LiveAlert
from responder.clients.prometheus import Prometheus, Sample
from responder.conduct import Watchdog
from responder.errors import Halt, Unavailable
from responder.matching import all_match
from responder.policies import Incident, Mandate
from responder.services import Service
from responder.survey import Live, Situation
from responder.trouble import QUESTION, RECORDED, Recordings, ask_trouble, common_labels, marked, questions, visible
from responder.trouble_check import concerning, selector
from responder.world import World


async def ask_live(incident: Incident, situation: Situation, mandate: Mandate, connections: Connections) -> Live:
    """Everything that only the outside knows. What cannot be learned says so, and allows nothing."""
    alerts, past, disarmed, failing = await asyncio.gather(
        ask_alerts(incident, mandate, connections, situation.returned_at),
        _past(incident, situation, mandate, connections),
        _disarmed(incident, mandate, connections),
        _needs_failing(incident, situation.service, mandate, connections),
    )
    live = alerts if alerts.state != "firing" or past.state == "firing" else past
    return live.model_copy(
        update={
            "disarmed": disarmed,
            "began_at": past.began_at,
            "was_so_before": past.was_so_before,
            "trouble_now": past.trouble_now,
            "needs_failing": failing,
        }
    )


async def ask_alerts(
    incident: Incident, mandate: Mandate, connections: Connections, returned_at: datetime | None = None
) -> Live:
    """Whether the incident's alerts fire now and nobody silenced them, and which other services are in trouble.

    Asked of Alertmanager, which knows all of a storm when it sends the first of its bodies. What it does not know
    (vmalert and Grafana may send past it) is asked of Prometheus' `ALERTS`. No answer is `unknown`, which never allows
    anything.
    """
    if not incident.alerts:
        return Live(state="firing", reason=f"requested by {incident.requested_by}")
    labels = common_labels(incident.alerts)
    fingerprints = {alert.fingerprint for alert in incident.alerts}
    try:
        alertmanager = await connections.to(Alertmanager)
        everyone = await alertmanager.alerts({k: v for k, v in labels.items() if k == "environment"})
        others = _others_in_trouble(everyone, incident, mandate, returned_at)
        present = [alert for alert in everyone if alert.fingerprint in fingerprints]
        if present and all(alert.state == "suppressed" for alert in present):
            return Live(state="suppressed", reason=await who_muted(present, alertmanager, everyone))
        if present:
            return Live(state="firing", reason="Alertmanager says that it fires", also_in_trouble=others)
        if reason := await _prometheus_says(labels, connections):
            # Alertmanager may have lost the alert, as after a restart; who silenced it has still silenced it.
            silences = [await alertmanager.silencing(alert.labels) for alert in incident.alerts]
            if all(silences):
                reasons = dict.fromkeys(str(silence) for found in silences for silence in found)
                return Live(state="suppressed", reason="; ".join(reasons))
            return Live(state="firing", reason=reason, also_in_trouble=others)
    except (Unavailable, Halt) as e:
        return Live(state="unknown", reason=str(e))
    return Live(state="gone", reason="neither Alertmanager nor Prometheus has it firing now")


async def _prometheus_says(labels: dict[str, str], connections: Connections) -> str:
    """How Prometheus shows that it fires; empty where it does not.

    An alert is joined with the deployment that the responder publishes, and breaks off when that cannot be scraped.
    Its recorded trouble does not.
    """
    prometheus = await connections.to(Prometheus)
    firing, recorded = selector("ALERTS", {**labels, "alertstate": "firing"}), selector(RECORDED, labels)
    found = await prometheus.query(f"{firing} or {recorded}")
    if any("alertstate" in sample.labels for sample in found):
        return "Prometheus says that it fires; Alertmanager does not know it"
    return "its trouble is still recorded; only the alert broke off, as where the responder is not scraped" * bool(
        found
    )


def _others_in_trouble(
    alerts: Iterable[LiveAlert], incident: Incident, mandate: Mandate, returned_at: datetime | None
) -> tuple[str, ...]:
    """Other services that policies would roll back for alerts that began at about the same time, silenced or not."""
    began = min(alert.starts_at for alert in incident.alerts)
    moments = [began, *([returned_at] if returned_at else [])]
    found: set[str] = set()
    for live in alerts:
        alert = live.as_alert(began)
        policy = next((p for p in mandate.policies if all_match(p.match, alert.labels)), None)
        near = any(abs((alert.starts_at - at).total_seconds()) <= mandate.limits.brake.within for at in moments)
        if policy and near and not policy.force and not mandate.is_watchdog(alert):
            named = [mandate.service(n, alert.labels.get("environment", ""))[0] for n in policy.services_of(alert)]
            found |= {service.name for service in named if service}
    return tuple(sorted(found - mandate.one_trouble(incident)))


async def ask_watchdog(watchdog: Watchdog, connections: Connections) -> Live:
    """Whether somebody silenced the watchdog: the kill switch that every on-call engineer has at hand."""
    exact = {m.name: m.value for m in watchdog.match if m.op == "="}
    try:
        alertmanager = await connections.to(Alertmanager)
        watchdogs = [a for a in await alertmanager.alerts(exact) if all_match(watchdog.match, a.labels)]
        if muted := [alert for alert in watchdogs if alert.state == "suppressed"]:
            reason = f"the watchdog alert is muted: {await who_muted(muted, alertmanager, muted)}"
            return Live(state="suppressed", reason=reason)
    except Unavailable as e:
        return Live(state="unknown", reason=f"cannot tell whether the watchdog alert is silenced: {e}")
    return Live(state="firing", reason="the watchdog alert is not silenced")


async def _disarmed(incident: Incident, mandate: Mandate, connections: Connections) -> str:
    if mandate.watchdog is None or incident.forced:
        return ""
    watchdog = await ask_watchdog(mandate.watchdog, connections)
    return "" if watchdog.state == "firing" else watchdog.reason


async def who_muted(alerts: list[LiveAlert], alertmanager: Alertmanager, known: list[LiveAlert]) -> str:
    """Who silenced or what inhibits these alerts: authors, comments and ends of silences, inhibiting alerts by name."""
    why = [str(await alertmanager.silence(i)) for alert in alerts[:3] for i in alert.silenced_by[:2]]
    inhibiting = {i for alert in alerts[:3] for i in alert.inhibited_by[:2]}
    if inhibiting - {alert.fingerprint for alert in known}:  # of another environment, or of none
        known = await alertmanager.alerts({})
    named = {alert.fingerprint: _named(alert) for alert in known}
    why += sorted(
        f"inhibited by {named.get(fingerprint, f'an alert that is gone by now ({fingerprint})')}"
        for fingerprint in inhibiting
    )
    return "; ".join(dict.fromkeys(why)) or "it does not say by what"


def _named(alert: LiveAlert) -> str:
    """By its name, and where it says so its service and environment."""
    labels = alert.labels
    return " ".join(
        [
            labels.get("alertname", "an alert without a name"),
            *([f"of {labels['service']}"] if labels.get("service") else []),
            *([f"in {labels['environment']}"] if labels.get("environment") else []),
        ]
    )


async def _past(incident: Incident, situation: Situation, mandate: Mandate, connections: Connections) -> Live:
    """Since when it fires (`activeAt` of the oldest alert like these; Prometheus may not know it, as with vmalert),
    whether something shows that it was so before the deployment, and whether the trouble is visible now.
    """
    running, came = situation.running, situation.came
    if incident.forced or situation.service is None:
        return Live(state="firing", reason="")
    if running is None or came is None:
        return Live(state="firing", reason="", trouble_now=await ask_trouble(incident, mandate, connections))
    labels, at = common_labels(incident.alerts), _just_before(situation, came.at)
    # One question: each costs as much as all the rest of a decision.
    before = [selector("ALERTS", {**labels, "alertstate": "firing"}), selector(RECORDED, labels)]
    if situation.verified_at:
        before = []  # their windows may still include what was before that rollback, which saw the service healthy
    past_queries = [marked(f"{what} @ {at.timestamp():.3f}", "before") for what in before]
    query = " or ".join([selector("ALERTS_FOR_STATE", labels), *past_queries, *questions(labels)])
    expression = incident.policy.expression
    try:
        prometheus = await connections.to(Prometheus)
        now, *was = await asyncio.gather(
            prometheus.query(query), *([prometheus.query(expression, at=at)] if expression else [])
        )
    except (Unavailable, Halt) as e:
        return Live(state="unknown", reason=f"since when it is so cannot be told: {e}")
    since = [sample for sample in now if QUESTION not in sample.labels]
    signs = [_fired_before(sample) for sample in now if sample.labels.get(QUESTION) == "before"]
    signs += [
        f"the `expression` of policy {incident.policy.name} had a result"
        for found in was
        if concerning(found, running.service, running.environment)
    ]
    return Live(
        state="firing",
        reason="",
        began_at=min((datetime.fromtimestamp(s.value, UTC) for s in since), default=None),
        was_so_before=f"{signs[0]} at {at:%H:%M:%S} UTC, before {came.version} was deployed" if signs else "",
        trouble_now=await visible(incident, Recordings(now), mandate, connections),
    )


def _just_before(situation: Situation, came_at: datetime) -> datetime:
    """The last moment that the new version cannot have spoiled; not before the service was seen healthy."""
    delay = situation.service.rollout if situation.service else 0.0
    at = came_at - timedelta(seconds=delay)
    return max(at, situation.verified_at) if situation.verified_at else at


def _fired_before(sample: Sample) -> str:
    name = sample.labels.get("alertname", "this alert")
    recorded = sample.labels.get("__name__") == RECORDED
    return f"the trouble of {name} was already recorded" if recorded else f"{name} was already firing"


async def _needs_failing(
    incident: Incident, service: Service | None, mandate: Mandate, connections: Connections
) -> tuple[str, ...]:
    """Services that this one depends on and that are not seen to be healthy: what cannot be seen is not healthy."""
    world = World(connections)
    needed = mandate.needs(service) if service and not incident.forced else []
    needed = [dependency for dependency in needed if dependency.name not in incident.together]
    findings = await asyncio.gather(*(world.holds(check) for dependency in needed for check in dependency.healthy))
    names = [dependency.name for dependency in needed for _ in dependency.healthy]
    return tuple(f"{name} ({f.reason})" for name, f in zip(names, findings, strict=True) if not f.holds)
