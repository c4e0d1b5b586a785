"""What the outside says now, asked where nothing in the journal speaks against a rollback, and before every act."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from responder.clients import Connections
from responder.clients.alertmanager import Alertmanager, LiveAlert
from responder.clients.prometheus import Prometheus
from responder.conduct import Watchdog
from responder.errors import Halt, Unavailable
from responder.journal.deployments import Deployment
from responder.matching import all_match
from responder.policies import Incident, Mandate
from responder.services import Service
from responder.survey import Live, Situation
from responder.world import World

_BEFORE = timedelta(seconds=30)
"""So long before a deployment was told it is asked whether the trouble was there: a rollout may have begun by then."""

_TROUBLE = "service_environment:trouble"
"""Recorded by our own rules: what an alert would say were it not joined with the deployment. An alert that is joined
can by itself never show that the trouble is older."""


async def ask_live(incident: Incident, situation: Situation, mandate: Mandate, connections: Connections) -> Live:
    """Everything that only the outside knows. What cannot be learned says so, and allows nothing."""
    alerts, since, disarmed, before, failing = await asyncio.gather(
        ask_alerts(incident, connections),
        _since(incident, connections),
        _disarmed(incident, mandate, connections),
        _was_so_before(incident, situation, connections),
        _needs_failing(incident, situation.service, mandate, connections),
    )
    if alerts.state == "firing":
        alerts = since.model_copy(update={"reason": alerts.reason} if since.state == "firing" else {})
    return alerts.model_copy(update={"disarmed": disarmed, "was_so_before": before, "needs_failing": failing})


async def ask_alerts(incident: Incident, connections: Connections) -> Live:
    """Whether the incident's alerts fire now and nobody silenced them.

    Asked of Alertmanager. What it does not know (vmalert and Grafana may send past it) is asked of Prometheus'
    `ALERTS`. No answer is `unknown`, which never allows anything.
    """
    if not incident.alerts:
        return Live(state="firing", reason=f"requested by {incident.requested_by}")
    labels = _common_labels(incident)
    fingerprints = {alert.fingerprint for alert in incident.alerts}
    try:
        alertmanager = await connections.to(Alertmanager)
        seen = [alert for alert in await alertmanager.alerts(labels) if alert.fingerprint in fingerprints]
        if seen and all(alert.state == "suppressed" for alert in seen):
            return Live(state="suppressed", reason=await _who_muted(seen, alertmanager))
        if seen:
            return Live(state="firing", reason="Alertmanager says that it fires")
        prometheus = await connections.to(Prometheus)
        if await prometheus.query(_selector("ALERTS", {**labels, "alertstate": "firing"})):
            return Live(state="firing", reason="Prometheus says that it fires; Alertmanager does not know it")
    except (Unavailable, Halt) as e:
        return Live(state="unknown", reason=str(e))
    return Live(state="gone", reason="neither Alertmanager nor Prometheus has it firing now")


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


async def _since(incident: Incident, connections: Connections) -> Live:
    """`activeAt` of the oldest alert like these; none where Prometheus does not have them, as with vmalert."""
    if incident.forced:
        return Live(state="firing", reason="")
    try:
        prometheus = await connections.to(Prometheus)
        found = await prometheus.query(_selector("ALERTS_FOR_STATE", _common_labels(incident)))
    except (Unavailable, Halt) as e:
        return Live(state="unknown", reason=f"since when it fires cannot be told: {e}")
    began = min((datetime.fromtimestamp(s.value, UTC) for s in found), default=None)
    return Live(state="firing", reason="", began_at=began)


async def _was_so_before(incident: Incident, situation: Situation, connections: Connections) -> str:
    if situation.running is None or incident.forced:
        return ""
    at = situation.running.at - _BEFORE
    labels = _common_labels(incident)
    alerts = _selector("ALERTS", {**labels, "alertstate": "firing"})
    queries = [f"{alerts} or {_selector(_TROUBLE, labels)}"]
    queries += [incident.policy.expression] if incident.policy.expression else []
    try:
        prometheus = await connections.to(Prometheus)
        answers = await asyncio.gather(*(prometheus.query(query, at=at) for query in queries))
    except (Unavailable, Halt) as e:
        return f"cannot tell what was before the deployment: {e}"
    for query, samples in zip(queries, answers, strict=True):
        if any(_concerns(sample.labels, situation.running) for sample in samples):
            return f"{query} had a result at {at:%H:%M:%S} UTC already"
    return ""


def _concerns(labels: Mapping[str, str], running: Deployment) -> bool:
    """Whether a series is about this service; one that names none is about whatever was asked for."""
    service, environment = labels.get("service", running.service), labels.get("environment", running.environment)
    return (service, environment) == (running.service, running.environment)


async def _needs_failing(
    incident: Incident, service: Service | None, mandate: Mandate, connections: Connections
) -> tuple[str, ...]:
    """Services that this one depends on and that are not seen to be healthy: what cannot be seen is not healthy."""
    world = World(connections)
    needed = mandate.needs(service) if service and not incident.forced else []
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
