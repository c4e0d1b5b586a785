"""Gathers, once, everything that the guards need to know."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from responder.clients import Connections
from responder.clients.alertmanager import Alertmanager
from responder.clients.prometheus import Prometheus
from responder.errors import Halt, Unavailable
from responder.journal import Transaction, decisions, deployments
from responder.journal.deployments import Deployment
from responder.policies import Incident, Mandate
from responder.services import Service


class Candidate(BaseModel):
    """A version to go back to, as the registry has it."""

    model_config = ConfigDict(frozen=True)

    version: str
    status: str
    artifact: str = ""


class Past(BaseModel):
    """One earlier rollback of the service."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    policy: str
    state: str
    outcome: str | None
    from_version: str
    to_version: str
    changed: bool
    ended_at: datetime | None
    reason: str


class Live(BaseModel):
    """What Alertmanager says of the incident's alerts at this moment."""

    model_config = ConfigDict(frozen=True)

    state: Literal["firing", "suppressed", "gone", "unknown"]
    reason: str


class Situation(BaseModel):
    """All facts about one incident at one moment. What could not be learned says so; nothing is assumed."""

    model_config = ConfigDict(frozen=True)

    service: Service | None = None
    service_problem: str = ""  # why there is none
    stopped: str = ""  # who stopped all automation, and why
    opened: str | None = None  # the execution that an alert of this incident has opened before
    running: Deployment | None = None  # the newest deployment
    target: Candidate | None = None
    rolled_back_before: str | None = None  # the execution that rolled the running version back before
    latest: Past | None = None  # the newest rollback of the service; a live or stuck one is always the newest
    last_of_policy: Past | None = None  # the newest of the incident's policy that ended and had changed something
    live: Live | None = None  # None: not asked, because something else speaks against it already


async def gather(tx: Transaction, incident: Incident, mandate: Mandate) -> Situation:
    """Everything that the journal knows, in the transaction that will also record the verdict."""
    thrown = await decisions.stopped(tx)
    stopped = mandate.stop_file_says() or (f"stopped by {thrown.thrown_by}: {thrown.reason}" if thrown else "")
    service, problem = mandate.service(incident.service, incident.environment)
    if service is None:
        return Situation(stopped=stopped, service_problem=problem)
    name, environment = service.name, service.environment
    await tx.lock(f"{name}/{environment}")
    where = {"service": name, "environment": environment}
    running, before, target = await deployments.newest(tx, name, environment), None, None
    if running:
        before = await tx.one("rollback_of_version", **where, version=running.version)
        target = await _target(tx, incident, name, environment, running.version)
    latest = await tx.one("latest_of_service", **where)
    last = await tx.one("last_of_policy", **where, policy=incident.policy.name)
    return Situation(
        service=service,
        stopped=stopped,
        opened=await _opened(tx, incident, name, environment),
        running=running,
        target=target,
        rolled_back_before=before["id"] if before else None,
        latest=Past.model_validate(latest) if latest else None,
        last_of_policy=Past.model_validate(last) if last else None,
    )


async def _target(tx: Transaction, incident: Incident, name: str, environment: str, running: str) -> Candidate | None:
    if incident.version is not None:
        row = await tx.one("version", service=name, environment=environment, version=incident.version)
        return Candidate.model_validate(dict(row)) if row else None
    row = await tx.one("good_target", service=name, environment=environment, running=running)
    return Candidate(version=row["version"], artifact=row["artifact"], status="good") if row else None


async def _opened(tx: Transaction, incident: Incident, name: str, environment: str) -> str | None:
    if not incident.alerts:
        return None
    rows = await tx.all(
        "episodes_since",
        policy=incident.policy.name,
        service=name,
        environment=environment,
        since=min(alert.starts_at for alert in incident.alerts),
    )
    opened = {(row["fingerprint"], row["starts_at"]): str(row["execution"]) for row in rows}
    return next((opened[key] for a in incident.alerts if (key := (a.fingerprint, a.starts_at)) in opened), None)


async def ask_live(incident: Incident, connections: Connections) -> Live:
    """Whether the incident's alerts fire now and nobody silenced them.

    Asked of Alertmanager. What it does not know (vmalert and Grafana may send past it) is asked of Prometheus'
    `ALERTS`. No answer is `unknown`, which never allows anything.
    """
    labels = _common_labels(incident)
    fingerprints = {alert.fingerprint for alert in incident.alerts}
    try:
        alertmanager = await connections.to(Alertmanager)
        seen = [alert for alert in await alertmanager.alerts(labels) if alert.fingerprint in fingerprints]
        if any(alert.state != "suppressed" for alert in seen):
            return Live(state="firing", reason="Alertmanager says that it fires")
        if seen:
            why = [str(await alertmanager.silence(i)) for alert in seen[:3] for i in alert.silenced_by[:2]]
            why += [f"inhibited by {i}" for alert in seen[:3] for i in alert.inhibited_by[:2]]
            return Live(state="suppressed", reason="; ".join(dict.fromkeys(why)) or "muted in Alertmanager")
        prometheus = await connections.to(Prometheus)
        selector = ",".join(f"{k}={_quoted(v)}" for k, v in {**labels, "alertstate": "firing"}.items())
        if await prometheus.query(f"ALERTS{{{selector}}}"):
            return Live(state="firing", reason="Prometheus says that it fires; Alertmanager does not know it")
    except (Unavailable, Halt) as e:
        return Live(state="unknown", reason=str(e))
    return Live(state="gone", reason="neither Alertmanager nor Prometheus has it firing now")


def _common_labels(incident: Incident) -> dict[str, str]:
    # Only these survive the way through relabelling and external labels on both sides.
    first = incident.alerts[0].labels
    return {
        name: first[name]
        for name in ("alertname", "service", "environment")
        if name in first and all(alert.labels.get(name) == first[name] for alert in incident.alerts)
    }


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
