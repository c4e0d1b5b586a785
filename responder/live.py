"""What the outside says now, asked where nothing in the journal speaks against a rollback, and before every act."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from responder.clients import Connections
from responder.clients.alertmanager import Alertmanager, LiveAlert
from responder.clients.prometheus import Prometheus, Sample
from responder.conduct import Watchdog
from responder.errors import Halt, Unavailable
from responder.journal.deployments import Deployment
from responder.matching import all_match
from responder.policies import Incident, Mandate
from responder.services import Service
from responder.survey import Live, Situation
from responder.world import World

_TROUBLE = "service_environment:trouble"
"""Recorded by our own rules: what an alert would say were it not joined with the deployment. An alert that is joined
can by itself never show that the trouble is older."""

_ASKED = "asked_before"
"""A label that tells apart, in one answer, what is so now and what was so before."""


async def ask_live(incident: Incident, situation: Situation, mandate: Mandate, connections: Connections) -> Live:
    """Everything that only the outside knows. What cannot be learned says so, and allows nothing."""
    alerts, past, disarmed, failing = await asyncio.gather(
        ask_alerts(incident, mandate, connections),
        _past(incident, situation, connections),
        _disarmed(incident, mandate, connections),
        _needs_failing(incident, situation.service, mandate, connections),
    )
    live = alerts if alerts.state != "firing" or past.state == "firing" else past
    return live.model_copy(
        update={
            "disarmed": disarmed,
            "began_at": past.began_at,
            "was_so_before": past.was_so_before,
            "needs_failing": failing,
        }
    )


async def ask_alerts(incident: Incident, mandate: Mandate, connections: Connections) -> Live:
    """Whether the incident's alerts fire now and nobody silenced them, and which other services are in trouble.

    Asked of Alertmanager, which knows all of a storm when it sends the first of its bodies. What it does not know
    (vmalert and Grafana may send past it) is asked of Prometheus' `ALERTS`. No answer is `unknown`, which never allows
    anything.
    """
    if not incident.alerts:
        return Live(state="firing", reason=f"requested by {incident.requested_by}")
    labels = _common_labels(incident)
    fingerprints = {alert.fingerprint for alert in incident.alerts}
    try:
        alertmanager = await connections.to(Alertmanager)
        everyone = await alertmanager.alerts({k: v for k, v in labels.items() if k == "environment"})
        others = _others_in_trouble(everyone, incident, mandate)
        seen = [alert for alert in everyone if alert.fingerprint in fingerprints]
        if seen and all(alert.state == "suppressed" for alert in seen):
            return Live(state="suppressed", reason=await _who_muted(seen, alertmanager))
        if seen:
            return Live(state="firing", reason="Alertmanager says that it fires", also_in_trouble=others)
        prometheus = await connections.to(Prometheus)
        if await prometheus.query(_selector("ALERTS", {**labels, "alertstate": "firing"})):
            reason = "Prometheus says that it fires; Alertmanager does not know it"
            return Live(state="firing", reason=reason, also_in_trouble=others)
    except (Unavailable, Halt) as e:
        return Live(state="unknown", reason=str(e))
    return Live(state="gone", reason="neither Alertmanager nor Prometheus has it firing now")


def _others_in_trouble(alerts: Iterable[LiveAlert], incident: Incident, mandate: Mandate) -> tuple[str, ...]:
    """Other services that policies would roll back for alerts that began at about the same time, silenced or not."""
    began = min(alert.starts_at for alert in incident.alerts)
    found: set[str] = set()
    for live in alerts:
        alert = live.as_alert(began)
        policy = next((p for p in mandate.policies if all_match(p.match, alert.labels)), None)
        near = abs((alert.starts_at - began).total_seconds()) <= mandate.limits.brake.within
        if policy and near and not policy.force and not mandate.is_watchdog(alert):
            named = [mandate.service(n, alert.labels.get("environment", ""))[0] for n in policy.services_of(alert)]
            found |= {service.name for service in named if service}
    return tuple(sorted(found - mandate.one_trouble(incident)))


async def ask_watchdog(watchdog: Watchdog, connections: Connections) -> Live:
    """Whether somebody silenced the watchdog: the kill switch that every on-call engineer has at hand."""
    exact = {m.name: m.value for m in watchdog.match if m.op == "="}
    try:
        alertmanager = await connections.to(Alertmanager)
        seen = [a for a in await alertmanager.alerts(exact) if all_match(watchdog.match, a.labels)]
        if muted := [alert for alert in seen if alert.state == "suppressed"]:
            reason = f"the watchdog alert is muted by {await _who_muted(muted, alertmanager)}"
            return Live(state="suppressed", reason=reason)
    except Unavailable as e:
        return Live(state="unknown", reason=f"cannot tell whether the watchdog alert is silenced: {e}")
    return Live(state="firing", reason="the watchdog alert is not silenced")


async def _disarmed(incident: Incident, mandate: Mandate, connections: Connections) -> str:
    if mandate.watchdog is None or incident.forced:
        return ""
    watchdog = await ask_watchdog(mandate.watchdog, connections)
    return "" if watchdog.state == "firing" else watchdog.reason


async def _who_muted(alerts: list[LiveAlert], alertmanager: Alertmanager) -> str:
    why = [str(await alertmanager.silence(i)) for alert in alerts[:3] for i in alert.silenced_by[:2]]
    why += [f"inhibited by {i}" for alert in alerts[:3] for i in alert.inhibited_by[:2]]
    return "; ".join(dict.fromkeys(why)) or "muted in Alertmanager"


async def _past(incident: Incident, situation: Situation, connections: Connections) -> Live:
    """Since when it fires (`activeAt` of the oldest alert like these; Prometheus may not know it, as with vmalert), and
    whether something shows that it was so before the deployment.
    """
    running = situation.running
    if running is None or incident.forced or situation.service is None:
        return Live(state="firing", reason="")
    labels, at = _common_labels(incident), _just_before(situation, running)
    alerts, trouble = _selector("ALERTS", {**labels, "alertstate": "firing"}), _selector(_TROUBLE, labels)
    # One question: each costs as much as all the rest of a decision.
    before = [f"{what} @ {at.timestamp():.3f}" for what in (alerts, trouble)]
    if situation.verified_at:
        before = []  # their windows may ring on from before that rollback, which saw the service healthy
    asked = [f'label_replace({what}, "{_ASKED}", "{n}", "", "")' for n, what in enumerate(before)]
    queries = [" or ".join([_selector("ALERTS_FOR_STATE", labels), *asked])]
    queries += [incident.policy.expression] if incident.policy.expression else []
    try:
        prometheus = await connections.to(Prometheus)
        now, *expression = await asyncio.gather(
            prometheus.query(queries[0]), *(prometheus.query(query, at=at) for query in queries[1:])
        )
    except (Unavailable, Halt) as e:
        return Live(state="unknown", reason=f"since when it is so cannot be told: {e}")
    since = [sample for sample in now if _ASKED not in sample.labels]
    was = [before[int(sample.labels[_ASKED])].partition(" @ ")[0] for sample in now if _ASKED in sample.labels]
    was += [query for query, found in zip(queries[1:], expression, strict=True) if _concerning(found, running)]
    return Live(
        state="firing",
        reason="",
        began_at=min((datetime.fromtimestamp(s.value, UTC) for s in since), default=None),
        was_so_before=f"{was[0]} had a result at {at:%H:%M:%S} UTC already" if was else "",
    )


def _just_before(situation: Situation, running: Deployment) -> datetime:
    """The last moment that the running version cannot have spoiled; not before the service was seen healthy."""
    delay = situation.service.rollout if situation.service else 0.0
    at = running.at - timedelta(seconds=delay)
    return max(at, situation.verified_at) if situation.verified_at else at


def _concerning(samples: Iterable[Sample], running: Deployment) -> bool:
    """Whether any of the series is about this service; one that names none is about whatever was asked for."""
    where = {"service": running.service, "environment": running.environment}
    return any(all(s.labels.get(name, value) == value for name, value in where.items()) for s in samples)


async def _needs_failing(
    incident: Incident, service: Service | None, mandate: Mandate, connections: Connections
) -> tuple[str, ...]:
    """Services that this one depends on and that are not seen to be healthy: what cannot be seen is not healthy."""
    world = World(connections)
    needed = mandate.needs(service) if service and not incident.forced else []
    needed = [one for one in needed if one.name not in incident.together]
    findings = await asyncio.gather(*(world.holds(check) for one in needed for check in one.healthy))
    told = [one.name for one in needed for _ in one.healthy]
    return tuple(f"{name} ({f.reason})" for name, f in zip(told, findings, strict=True) if not f.holds)


def _common_labels(incident: Incident) -> dict[str, str]:
    # Only these survive the way through relabelling and external labels on both sides.
    first = incident.alerts[0].labels
    return {
        name: first[name]
        for name in ("alertname", "service", "environment")
        if name in first and all(alert.labels.get(name) == first[name] for alert in incident.alerts)
    }


def _selector(metric: str, labels: Mapping[str, str]) -> str:
    return f"{metric}{{{','.join(f'{name}={_quoted(value)}' for name, value in labels.items())}}}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
