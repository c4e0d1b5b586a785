"""Whether the trouble of an alert is visible in the last scrapes, however long the window of its rule is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from foundation.durations import format_duration
from responder.backends.alertmanager.alerts import Alert
from responder.backends.connections import Connections
from responder.backends.prometheus.client import Prometheus, Sample
from responder.backends.prometheus.trouble_check import EVALUATED, FRESH, NOW, concerning, selector
from responder.decisions.facts import TroubleNow
from responder.decisions.incidents import Incident
from responder.decisions.policy_set import PolicySet
from responder.errors import StepFailed, Unavailable
from responder.rollback.gateway import Gateway

RECORDED = "service_environment:trouble"
"""Recorded by the shipped rules: the condition of an alert over its whole window, without the deployment."""

QUESTION = "question"
"""The label that tells, in the result of a joined query, which part a sample belongs to."""

_SAME = 0.5
"""Seconds by which the samples of one evaluation may differ."""


class Recordings:
    """What the rules recorded at their last evaluation, read from the answer to `questions`."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        found: dict[str, list[Sample]] = {}
        for sample in samples:
            found.setdefault(sample.labels.get(QUESTION, ""), []).append(sample)
        self._now, self._evaluated = found.get("now", []), found.get("evaluated", [])
        self._recorded = found.get("recorded", [])
        self._clock = max((sample.value for sample in found.get("clock", [])), default=0.0)

    def of(self, alerts: Sequence[Alert], service: str) -> TroubleNow | None:
        """Whether the trouble of any of the alerts is visible; None if no rule records it."""
        now = [sample for sample in self._now if _concerns(sample, alerts)]
        evaluated = [sample for sample in self._evaluated if _is_of(sample, alerts)]
        if not now and not evaluated and not any(_concerns(sample, alerts) for sample in self._recorded):
            return None
        if visible := sorted({s.labels.get("alertname", "") for s in now if self._is_fresh(s, evaluated)}):
            return TroubleNow(
                state="visible", reason=f"{', '.join(visible)}: visible in the last scrapes{_queried_at()}"
            )
        last = max((sample.value for sample in (*evaluated, *now)), default=None)
        if last is None:
            update = f"no rule records it as {NOW}: load the alert rules of this release"
            return TroubleNow(state="unknown", reason=f"cannot tell whether {_names(alerts)} persists: {update}")
        if self._clock - last > FRESH:
            age = format_duration((self._clock - last) // 1)
            why = f"Prometheus evaluated its rule {age} ago, longer than {format_duration(FRESH)}"
            return TroubleNow(state="unknown", reason=f"cannot tell whether {_names(alerts)} persists: {why}")
        missing = f"no trouble is visible in the last scrapes of {service}{_queried_at()}"
        reason = f"{_names(alerts)} still fires, but {missing}"
        return TroubleNow(state="gone", reason=reason)

    def _is_fresh(self, sample: Sample, evaluated: Sequence[Sample]) -> bool:
        """Whether the sample is from the last evaluation of its rule, and that was recent."""
        same = [other.value for other in evaluated if _rule_of(other) == _rule_of(sample)]
        return self._clock - sample.value <= FRESH and all(sample.value >= last - _SAME for last in same)


def questions(labels: Mapping[str, str]) -> list[str]:
    """Queries about all alerts with these labels, to be joined by `or`; `Recordings` reads the result."""
    of_rule = {name: value for name, value in labels.items() if name == "alertname"}
    queries = {
        "now": f"timestamp({selector(NOW, labels)})",
        "evaluated": f"timestamp({selector(EVALUATED, of_rule)})",
        "recorded": selector(RECORDED, labels),
        "clock": "vector(time())",
    }
    return [marked(query, question) for question, query in queries.items()]


async def visible(
    incident: Incident, recordings: Recordings, policy_set: PolicySet, connections: Connections
) -> TroubleNow:
    """Whether the trouble of any of its alerts is visible.

    The recordings of the rules decide. For alerts of other rules, the `expression` of the policy decides, or else the
    service's own checks: at least one must answer and fail.
    """
    recorded = recordings.of(incident.alerts, incident.service)
    others = tuple(alert for alert in incident.alerts if recordings.of((alert,), incident.service) is None)
    if recorded is not None and (recorded.state == "visible" or not others):
        return recorded
    of_others = incident.model_copy(update={"alerts": others})
    if incident.policy.expression:
        found = await _by_expression(of_others, connections)
    else:
        found = await _by_checks(of_others, policy_set, connections)
    return recorded if recorded is not None and found.state == "gone" else found


async def query_trouble(incident: Incident, policy_set: PolicySet, connections: Connections) -> TroubleNow:
    """As `visible`, but queries Prometheus itself. Without an answer the state is `unknown`."""
    try:
        prometheus = await connections.to(Prometheus)
        samples = await prometheus.query(" or ".join(questions(common_labels(incident.alerts))))
    except (Unavailable, StepFailed) as e:
        return TroubleNow(state="unknown", reason=f"cannot tell whether {_names(incident.alerts)} persists: {e}")
    return await visible(incident, Recordings(samples), policy_set, connections)


async def _by_expression(incident: Incident, connections: Connections) -> TroubleNow:
    expression = f"the `expression` of policy {incident.policy.name}"
    try:
        found = await (await connections.to(Prometheus)).query(incident.policy.expression)
    except (Unavailable, StepFailed) as e:
        return TroubleNow(state="unknown", reason=f"cannot tell whether {_names(incident.alerts)} persists: {e}")
    if concerning(found, incident.service, incident.environment):
        return TroubleNow(state="visible", reason=f"{expression} has a result{_queried_at()}")
    why = f"{expression} has no result for {incident.service}"
    return TroubleNow(state="gone", reason=f"{_names(incident.alerts)} still fires, but {why}{_queried_at()}")


async def _by_checks(incident: Incident, policy_set: PolicySet, connections: Connections) -> TroubleNow:
    gateway, name = Gateway(connections), _names(incident.alerts)
    members = incident.together or (incident.service,)
    services = [service for member in members if (service := policy_set.service(member, incident.environment)[0])]
    checks = [check for service in services for check in (*service.health_checks, *service.traffic_checks)]
    findings = await asyncio.gather(*map(gateway.holds, checks))
    if bad := [finding.reason for finding in findings if finding.answered and not finding.holds]:
        return TroubleNow(state="visible", reason=f"{'; '.join(bad[:3])}{_queried_at()}")
    if unknown := [finding.reason for finding in findings if not finding.answered]:
        return TroubleNow(state="unknown", reason=f"cannot tell whether {name} persists: {'; '.join(unknown[:3])}")
    names = ", ".join(service.name for service in services)
    return TroubleNow(
        state="gone",
        reason=f"{name} still fires, but all health and traffic checks of {names} hold{_queried_at()}. "
        "Nothing else shows whether the trouble persists: "
        f"add an `expression` to policy {incident.policy.name}",
    )


def common_labels(alerts: Sequence[Alert]) -> dict[str, str]:
    """The common values of the labels that survive relabelling: alertname, service and environment."""
    first = alerts[0].labels
    return {
        name: first[name]
        for name in ("alertname", "service", "environment")
        if name in first and all(alert.labels.get(name) == first[name] for alert in alerts)
    }


def marked(query: str, question: str) -> str:
    """The query with the label `question` on each of its series."""
    return f'label_replace({query}, "{QUESTION}", "{question}", "", "")'


def _concerns(sample: Sample, alerts: Sequence[Alert]) -> bool:
    return any(
        all(sample.labels.get(name) == alert.labels.get(name) for name in ("alertname", "service", "environment"))
        for alert in alerts
    )


def _is_of(sample: Sample, alerts: Sequence[Alert]) -> bool:
    return any(sample.labels.get("alertname") == alert.name for alert in alerts)


def _rule_of(sample: Sample) -> dict[str, str]:
    """What identifies the rule, and its Prometheus: all labels but those of the service."""
    return {k: v for k, v in sample.labels.items() if k not in ("service", "environment", QUESTION, "__name__")}


def _names(alerts: Sequence[Alert]) -> str:
    return ", ".join(sorted({alert.name for alert in alerts})[:3])


def _queried_at() -> str:
    return f" (queried at {datetime.now(UTC):%H:%M:%S} UTC)"
