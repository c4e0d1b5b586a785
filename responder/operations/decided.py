"""The decision on one incident, as it is answered, recorded and handed to the worker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import ConfigDict

from foundation.models import FrozenModel
from responder.backends.alertmanager.alerts import Alert
from responder.decisions.facts import Facts
from responder.decisions.guards import Decision, needs_human
from responder.decisions.incidents import Incident
from responder.journal.decisions import RecordedDecision
from responder.rollback.execution import Execution

MOST_ALERTS = 20
"""Alerts that the record of a decision keeps. An accepted execution keeps all."""


class Decided(FrozenModel):
    """The decision on one incident, and the execution if one was accepted."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    incident: Incident
    facts: Facts
    also: tuple[Facts, ...] = ()  # of the other services of one rollback
    decision: Decision
    at: datetime
    execution: Execution | None = None
    evidence: str | None = None  # ID of the logs that are preserved without a rollback
    claimed: bool = False  # by the worker of this process, in the same transaction

    @property
    def environment(self) -> str:
        """The environment of the configured service, or the one that the alert names."""
        return self.facts.service.environment if self.facts.service else self.incident.environment

    @property
    def result(self) -> str:
        """The result on record. Preserved logs do not count as an allowed rollback."""
        result = self.decision.deciding.result
        return "preserve" if result == "allow" and self.incident.action == "preserve_logs" else result

    def payload(self) -> dict[str, Any]:
        """The decision as the API answers it and as its record shows it."""
        deciding = self.decision.deciding
        payload = summary(
            self.incident.policy.name,
            self.incident.service,
            self.environment,
            result=self.result,
            guard=deciding.guard,
            reason=deciding.reason,
        )
        payload["execution"] = self.execution.id if self.execution else None
        return {**payload, "evidence": self.evidence} if self.evidence else payload

    def record(self, record_id: str, *, trouble_visible: bool) -> RecordedDecision:
        """The decision with its guard results, alerts and facts."""
        incident, facts = self.incident, self.facts
        trouble = facts.live.trouble_now if facts.live else None
        visible = trouble_visible or (trouble is not None and trouble.state == "visible")
        running, target = facts.running, facts.target
        body = {
            **self.decision.model_dump(),
            **recorded_alerts(_oldest_first(incident.alerts)),
            "truncated_alerts": incident.truncated_alerts,
            "requested_by": incident.requested_by,
            "running": running.model_dump(mode="json", include={"id", "version", "at", "status"}) if running else None,
            "target": target.model_dump() if target else None,
            "live": facts.live.model_dump(mode="json") if facts.live else None,
        }
        return RecordedDecision(
            id=record_id,
            action=incident.action,
            incident=incident.id,
            at=self.at,
            last_at=self.at,
            forced=incident.forced,
            needs_human=needs_human(incident, self.decision.deciding, facts, self.at, trouble_visible=visible),
            body=json.dumps(body),
            **self.payload(),
        )


def summary(policy: str, service: str, environment: str, *, result: str, guard: str, reason: str) -> dict[str, Any]:
    """The fields that every decision has in answers and on record. No execution: the caller adds one."""
    return {
        "policy": policy,
        "service": service,
        "environment": environment,
        "result": result,
        "guard": guard,
        "reason": reason,
        "execution": None,
    }


def recorded_alerts(alerts: Sequence[Alert]) -> dict[str, Any]:
    """The first MOST_ALERTS alerts, and how many there were."""
    kept = [
        {
            "labels": alert.labels,
            "annotations": alert.annotations,
            "starts_at": alert.starts_at.isoformat(),
            "fingerprint": alert.fingerprint,
        }
        for alert in alerts[:MOST_ALERTS]
    ]
    return {"alerts": kept, "total_alerts": len(alerts)}


def _oldest_first(alerts: Sequence[Alert]) -> list[Alert]:
    # The oldest alert identifies the incident, even when it is decided again.
    return sorted(alerts, key=lambda alert: (alert.starts_at, alert.fingerprint))
