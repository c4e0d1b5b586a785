"""From alerts to a verdict on record, and where all guards allow it, to an accepted execution."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict

from responder.backends.alertmanager.alerts import Alert
from responder.backends.connections import Connections
from responder.decisions.evaluation import ask_outside, collect, evaluate
from responder.decisions.facts import Facts, LiveState
from responder.decisions.guards import Decision, GuardResult, did_not_help, needs_human, needs_live_data
from responder.decisions.incidents import Incident
from responder.decisions.policies import Policy
from responder.decisions.policy_set import PolicySet
from responder.decisions.recording import record_decision
from responder.errors import Conflict
from responder.journal import Database, Transaction, decisions, deployments, evidence, executions
from responder.rollback.events import Accepted
from responder.rollback.execution import Execution
from responder.rollback.version_change import VersionChange
from responder.services import registry, rollbacks

Clock = Callable[[], datetime]


_ALERTS_KEPT = 20
"""How many alerts of a refused incident are kept with the decision; what is accepted keeps all."""


class Decided(BaseModel):
    """The verdict on one incident, and the execution where there is one."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    incident: Incident
    facts: Facts
    also: tuple[Facts, ...] = ()  # of the other services, where several are rolled back together
    decision: Decision
    at: datetime
    execution: Execution | None = None
    evidence: str | None = None  # where logs are kept by themselves
    claimed: bool = False  # by the worker that was named, in the same transaction

    @property
    def environment(self) -> str:
        return self.facts.service.environment if self.facts.service else self.incident.environment

    @property
    def result(self) -> str:
        """As it is on record; that logs are kept does not count as a rollback that was allowed."""
        result = self.decision.deciding.result
        return "preserve" if result == "allow" and self.incident.action == "preserve_logs" else result

    def payload(self) -> dict[str, Any]:
        """What the sender is answered, and what the decision record shows."""
        deciding = self.decision.deciding
        extra = {"evidence": self.evidence} if self.evidence else {}
        return {
            "policy": self.incident.policy.name,
            "service": self.incident.service,
            "environment": self.environment,
            "result": self.result,
            "guard": deciding.guard,
            "reason": deciding.reason,
            "execution": self.execution.id if self.execution else None,
            **extra,
        }


class Claimer(BaseModel):
    """The worker of this process, which takes what is accepted in the same transaction where it has room."""

    worker: str
    concurrent: int


async def respond(
    incidents: Sequence[Incident],
    *,
    policy_set: PolicySet,
    journal: Database,
    connections: Connections,
    claimer: Claimer | None = None,
    clock: Clock | None = None,
    trouble_visible: bool = False,
) -> list[Decided]:
    """Judges every incident, and has all verdicts and executions in the journal when it returns.

    What the journal and the configuration refuse is settled in one transaction. Only where nothing else speaks
    against it is Alertmanager asked; then everything is judged anew, because time has passed. `trouble_visible`:
    the caller has just seen it, so that a refusal which leaves it to people is on record as such.
    Raises JournalUnavailable, and then nothing was accepted.
    """
    clock = clock or journal.now
    # Always in the same order: two bodies must not wait for each other's locks.
    ordered = sorted(incidents, key=lambda i: (i.service, i.environment, i.policy.name))
    rolling = [i for i in ordered if i.action == "roll_back"]
    keeping = [i for i in ordered if i.action != "roll_back"]
    converged: list[Decided] = []
    open_ones: list[tuple[Incident, tuple[Facts, ...]]] = []
    if rolling:
        converged, open_ones = await journal.transaction(
            _decide, rolling, _unasked(rolling), policy_set, claimer, clock, trouble_visible
        )
    if open_ones:
        lives = await asyncio.gather(
            *(ask_outside(incident, situations, policy_set, connections) for incident, situations in open_ones)
        )
        undecided = [incident for incident, _ in open_ones]
        more, _ = await journal.transaction(_decide, undecided, lives, policy_set, claimer, clock, trouble_visible)
        converged += more
    if keeping:  # last, because what is rolled back by now keeps its logs itself
        kept, _ = await journal.transaction(_decide, keeping, _unasked(keeping), policy_set, None, clock)
        converged += kept
    return converged


def _unasked(incidents: Sequence[Incident]) -> list[Sequence[LiveState] | None]:
    return [None] * len(incidents)


async def explain(
    incidents: Sequence[Incident],
    *,
    policy_set: PolicySet,
    journal: Database,
    connections: Connections,
    clock: Clock | None = None,
) -> list[Decided]:
    """The same judgement, with nothing recorded and nothing begun."""
    decided, clock = [], clock or journal.now
    for incident in incidents:
        now = clock()
        beside = _beside(incident, incidents, policy_set)
        situations = await journal.read(collect, incident, None, policy_set, now, beside)
        decision = evaluate(incident, situations, now)
        if needs_live_data(incident, decision, situations[0]):
            lives = await ask_outside(incident, situations, policy_set, connections)
            situations = await journal.read(collect, incident, lives, policy_set, now, beside)
            decision = evaluate(incident, situations, now)
        first, *also = situations
        decided.append(Decided(incident=incident, facts=first, also=tuple(also), decision=decision, at=now))
    return decided


def _beside(incident: Incident, incidents: Sequence[Incident], policy_set: PolicySet) -> frozenset[str]:
    """The configured services that the same body tells to be in trouble in the same environment."""
    reported = [
        i for i in incidents if i.environment == incident.environment and not i.forced and i.action == "roll_back"
    ]
    return frozenset(service.name for i in reported if (service := policy_set.service(i.service, i.environment)[0]))


async def _decide(
    tx: Transaction,
    incidents: Sequence[Incident],
    lives: Sequence[Sequence[LiveState] | None],
    policy_set: PolicySet,
    claimer: Claimer | None,
    clock: Clock,
    trouble_visible: bool = False,
) -> tuple[list[Decided], list[tuple[Incident, tuple[Facts, ...]]]]:
    converged, open_ones = [], []
    # All of them before anything else: who accepts one and then wants another could be waited for by who has that.
    named = (policy_set.service(member.service, member.environment)[0] for i in incidents for member in i.members)
    await deployments.hold(tx, *((service.name, service.environment) for service in named if service))
    for incident, live in zip(incidents, lives, strict=True):
        now = clock()
        situations = await collect(tx, incident, live, policy_set, now, _beside(incident, incidents, policy_set))
        decision = evaluate(incident, situations, now)
        if needs_live_data(incident, decision, situations[0]):
            open_ones.append((incident, situations))
            continue
        first, *also = situations
        decided = Decided(incident=incident, facts=first, also=tuple(also), decision=decision, at=now)
        record_id = executions.new_id(now)
        if decision.deciding.result != "deny" and incident.action == "roll_back":
            decided = await _accept(tx, decided, claimer)
        elif decision.deciding.result != "deny":
            decided = await _want_logs(tx, decided, record_id)
        record = _as_record(decided, record_id, trouble_visible)
        await record_decision(tx, record, repeated=not trouble_visible)
        for member, facts in zip(incident.members, situations, strict=True):
            await _mark_replaced(tx, member, facts, now)
            await _mark_unhelped(tx, member, facts, now)
        converged.append(decided)
    return converged, open_ones


async def _mark_unhelped(tx: Transaction, incident: Incident, facts: Facts, now: datetime) -> None:
    """Marks both versions suspect if what opened a rollback still fires long after it was verified."""
    service, latest = facts.service, facts.latest
    if service is None or latest is None or not did_not_help(incident, facts, now):
        return
    for version, before in ((latest.from_version, "bad"), (latest.to_version, "good")):
        known = await tx.first("version", service=service.name, environment=service.environment, version=version)
        if known and known["status"] == before:
            why = f"{incident.title} still fires after {latest.id}"
            await registry.mark(tx, service.name, service.environment, version, "suspect", why, now)


async def _mark_replaced(tx: Transaction, incident: Incident, facts: Facts, now: datetime) -> None:
    """Marks the version bad that somebody replaced with the running one, where the trouble is the replaced one's."""
    running, replaced, service = facts.running, facts.replaced, facts.service
    if running is None or replaced is None or service is None or incident.policy.mode == "observe":
        return
    if incident.forced or not incident.alerts or replaced.status in registry.NEVER_A_TARGET:
        return
    live, delay = facts.live, timedelta(seconds=service.reporting_delay)
    if live is None or live.trouble_now is None or live.was_so_before:
        return  # nobody could tell what was before it came, or it was so before
    began = min([*(alert.starts_at for alert in incident.alerts), *([live.began_at] if live.began_at else [])])
    lately = replaced.at + timedelta(seconds=incident.policy.deployed_within)
    # A version that has proven itself is not blamed for what began after it was replaced.
    latest = running.at if replaced.status == "good" else running.at + delay
    if replaced.at - delay <= began <= min(latest, lately):
        why = f"{incident.title}: it was replaced by {running.version} at {running.at:%Y-%m-%d %H:%M:%S} UTC"
        await registry.mark(tx, service.name, service.environment, replaced.version, "bad", why, now)


def _version_change(facts: Facts, strategy: str | None) -> VersionChange:
    version = facts.version_change(strategy)
    if version is None:
        raise Conflict("an incident without a service, a running version and a target was allowed: this is a bug")
    return version


async def _accept(tx: Transaction, decided: Decided, claimer: Claimer | None) -> Decided:
    incident, facts, deciding = decided.incident, decided.facts, decided.decision.deciding
    running = facts.running
    accepted = Accepted(
        at=decided.at,
        **_version_change(facts, incident.strategy).model_dump(exclude={"platform_versions", "execution"}),
        also=tuple(_version_change(other, None) for other in decided.also),
        policy=incident.policy.name,
        requested_by=incident.requested_by,
        forced=incident.forced,
        reason=incident.title,
        approval_reason=deciding.reason if deciding.result == "require_approval" else "",
        on_stop=incident.policy.on_stop,
        alerts=incident.alerts,
        truncated_alerts=incident.truncated_alerts,
        deployment_id=running.id if running else "",
        deployed_at=running.at if running else None,
        onset_at=facts.live.began_at if facts.live else None,
        received_at=incident.received_at,
    )
    execution = await rollbacks.accept(tx, executions.new_id(decided.at), accepted)
    claimed = claimer is not None and await executions.claim_new(
        tx, execution, claimer.worker, concurrent=claimer.concurrent
    )
    return decided.model_copy(update={"execution": execution, "claimed": claimed})


async def _want_logs(tx: Transaction, decided: Decided, evidence_id: str) -> Decided:
    service, running = decided.facts.service, decided.facts.running
    if service is None:
        raise Conflict("logs of no service were allowed to be kept: this is a bug")
    await evidence.request(
        tx,
        evidence_id,
        policy=decided.incident.policy.name,
        service=service.name,
        environment=service.environment,
        deployment_id=running.id if running else "",
        alerts=decided.incident.alerts,
        at=decided.at,
    )
    return decided.model_copy(update={"evidence": evidence_id})


def _as_record(decided: Decided, record_id: str, trouble_visible: bool) -> decisions.RecordedDecision:
    incident, facts = decided.incident, decided.facts
    trouble = facts.live.trouble_now if facts.live else None
    is_visible = trouble_visible or (trouble is not None and trouble.state == "visible")
    running, target = facts.running, facts.target
    body = {
        "guard_results": [result.model_dump() for result in decided.decision.guard_results],
        "alerts": [_alert(alert) for alert in _oldest(incident.alerts)],
        "alerts_in_all": len(incident.alerts),
        "truncated_alerts": incident.truncated_alerts,
        "requested_by": incident.requested_by,
        "running": running.model_dump(mode="json", include={"id", "version", "at", "status"}) if running else None,
        "target": target.model_dump() if target else None,
        "live": facts.live.model_dump(mode="json") if facts.live else None,
    }
    payload = decided.payload()
    at = decided.at
    return decisions.RecordedDecision(
        id=record_id,
        action=incident.action,
        incident=incident.id,
        at=at,
        last_at=at,
        forced=incident.forced,
        needs_human=needs_human(incident, decided.decision.deciding, facts, at, trouble_visible=is_visible),
        body=json.dumps(body),
        **payload,
    )


def _oldest(alerts: Sequence[Alert]) -> list[Alert]:
    """Those that are kept. The first names the incident, which is recognised by it when it is judged again."""
    return sorted(alerts, key=lambda alert: (alert.starts_at, alert.fingerprint))[:_ALERTS_KEPT]


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "starts_at": alert.starts_at.isoformat(),
        "fingerprint": alert.fingerprint,
    }


async def note_told(journal: Database, policy: Policy, alerts: Sequence[Alert], now: datetime) -> dict[str, Any]:
    """Puts on record, and so into the outbox, that a policy wants these alerts told; once, however often they come."""
    first = min(alerts, key=lambda alert: (alert.starts_at, alert.fingerprint))
    channels = ", ".join(policy.notify or ())
    payload = {
        "policy": policy.name,
        "service": first.labels.get("service", ""),
        "environment": first.labels.get("environment", ""),
        "result": "notify",
        "guard": "policy",
        "reason": f"{first.name} is told to {channels}; the policy does nothing else",
        "execution": None,
    }
    key = "\0".join((policy.name, first.fingerprint, first.starts_at.isoformat(), "notify"))
    body = {
        "guard_results": [],
        "alerts": [_alert(alert) for alert in alerts[:_ALERTS_KEPT]],
        "alerts_in_all": len(alerts),
    }
    decision = decisions.RecordedDecision(
        id=executions.new_id(now),
        action="notify",
        incident=hashlib.sha256(key.encode()).hexdigest()[:20],
        at=now,
        last_at=now,
        body=json.dumps(body),
        **payload,
    )
    await journal.transaction(record_decision, decision)
    return payload


async def note_unwanted(journal: Database, alerts: Sequence[Alert], now: datetime) -> dict[str, Any]:
    """Puts on record that no policy wants these alerts: an engineer who expected a rollback will ask."""
    services = sorted({alert.labels.get("service", "") for alert in alerts})
    names = sorted({alert.name for alert in alerts})
    key = "\0".join(sorted({alert.fingerprint for alert in alerts}))
    payload = {
        "policy": "",
        "service": services[0] if len(services) == 1 else "",
        "environment": alerts[0].labels.get("environment", "") if len(services) == 1 else "",
        "result": "ignore",
        "guard": "policy",
        "reason": f"no policy matches {', '.join(names[:5])}{' …' if len(names) > 5 else ''}",
        "execution": None,
    }
    body = {
        "guard_results": [GuardResult(guard="policy", result="deny", reason=str(payload["reason"])).model_dump()],
        "alerts": [_alert(alert) for alert in alerts[:_ALERTS_KEPT]],
        "alerts_in_all": len(alerts),
    }
    decision = decisions.RecordedDecision(
        id=executions.new_id(now),
        incident=hashlib.sha256(key.encode()).hexdigest()[:20],
        at=now,
        last_at=now,
        body=json.dumps(body),
        **payload,
    )
    await journal.transaction(record_decision, decision)
    return payload


async def note_not_permitted(journal: Database, incident: Incident, sender: str, now: datetime) -> dict[str, Any]:
    """Puts on record that the sender's token is limited to other services or environments.

    It is no decision about a rollback: it is not judged again, and says nothing of whether the service is in trouble.
    """
    names = ", ".join(member.service for member in incident.members)
    reason = f"the token {sender} is not permitted for {names} in {incident.environment or 'any environment'}"
    payload = {
        "policy": incident.policy.name,
        "service": incident.service,
        "environment": incident.environment,
        "result": "deny",
        "guard": "policy",
        "reason": reason,
        "execution": None,
    }
    body = {
        "guard_results": [GuardResult(guard="policy", result="deny", reason=reason).model_dump()],
        "alerts": [_alert(alert) for alert in incident.alerts[:_ALERTS_KEPT]],
        "alerts_in_all": len(incident.alerts),
        "requested_by": sender,
    }
    decision = decisions.RecordedDecision(
        id=executions.new_id(now),
        action="read",
        incident=hashlib.sha256(f"{incident.id}\0{sender}".encode()).hexdigest()[:20],
        at=now,
        last_at=now,
        body=json.dumps(body),
        **payload,
    )
    await journal.transaction(record_decision, decision)
    return payload
