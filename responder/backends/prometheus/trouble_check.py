"""Whether the trouble that caused a rollback is gone; the last gate checks it beside the service's health."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pydantic import Field

from foundation.durations import format_duration
from responder.backends.alertmanager.alerts import Alert
from responder.backends.check import Check, Finding
from responder.backends.problems import Problem
from responder.backends.prometheus.client import Prometheus, Sample

NOW = "service_environment:trouble:now"
"""Recorded by the shipped rules: the condition of an alert over the last scrapes."""

EVALUATED = "alertname:trouble:evaluation_timestamp"
"""Recorded beside it: when Prometheus evaluated the rule last. Without it, a result from before a restart of
Prometheus would count for five minutes.
"""

FRESH = 90.0
"""Age in seconds up to which an evaluation counts: one missed evaluation at an interval of 45 s."""

_CLASSIC_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
_IDENTIFYING = ("alertname", "service", "environment")


class TroubleCheck(Check[Prometheus]):
    """The trouble behind these alerts is not visible in the last scrapes. Plans use it, not configurations.

    It evaluates the `expression` of the policy, or else the series that the shipped rules record. It always holds for
    alerts of other rules: only the alert itself shows their trouble, and it lasts longer than the trouble.
    """

    trouble_of: tuple[dict[str, str], ...] = Field(
        min_length=1, description="Labels alertname, service and environment of each alert"
    )
    expression: str = Field(default="", description="PromQL that has a result for the service while the trouble lasts")
    service: str = Field(default="", description="Service that the expression is evaluated for")
    environment: str = Field(default="", description="Environment of that service")

    @classmethod
    def of(cls, alerts: Iterable[Alert], expression: str, service: str, environment: str) -> TroubleCheck | None:
        """The check for alerts that opened a rollback of the service; None if there are none."""
        labels = [{name: alert.labels[name] for name in _IDENTIFYING if name in alert.labels} for alert in alerts]
        distinct = tuple(alert_labels for n, alert_labels in enumerate(labels) if alert_labels not in labels[:n])
        where = {"service": service, "environment": environment} if expression else {}
        return cls(trouble_of=distinct, expression=expression, **where) if distinct else None

    async def check_access(self, prometheus: Prometheus) -> list[Problem]:
        return []  # no configuration names this check

    async def holds(self, prometheus: Prometheus) -> Finding:
        names = ", ".join(sorted({labels.get("alertname", "") for labels in self.trouble_of}))
        if self.expression:
            lasts = concerning(await prometheus.query(self.expression), self.service, self.environment)
            state = "still has a result" if lasts else "no longer has a result"
            return Finding(holds=not lasts, reason=f"the `expression` for {names} {state}")
        rules = [{"alertname": labels.get("alertname", "")} for labels in self.trouble_of]
        queries = [selector(NOW, labels) for labels in self.trouble_of]
        queries += [f"time() - timestamp({selector(EVALUATED, rule)})" for rule in rules]
        samples = await prometheus.query(" or ".join(dict.fromkeys(queries)))
        if any("service" in sample.labels for sample in samples):
            return Finding(holds=False, reason=f"{names}: still visible in the last scrapes")
        age = max((sample.value for sample in samples), default=0.0)
        if age > FRESH:
            evaluated = f"Prometheus evaluated the rule of {names} {format_duration(age // 1)} ago"
            return Finding(holds=False, answered=False, reason=f"{evaluated}, longer than {format_duration(FRESH)}")
        return Finding(holds=True, reason=f"{names}: not visible in the last scrapes")


def concerning(samples: Iterable[Sample], service: str, environment: str) -> bool:
    """Whether any of the series is about this service; a missing label matches every service and environment."""
    where = {"service": service, "environment": environment}
    return any(all(s.labels.get(name, value) == value for name, value in where.items()) for s in samples)


def selector(metric: str, labels: Mapping[str, str]) -> str:
    """The selector of a metric with these labels. Prometheus 3 takes every name in quotes."""
    matchers = (
        f"{name if _CLASSIC_NAME.fullmatch(name) else _quoted(name)}={_quoted(value)}" for name, value in labels.items()
    )
    return f"{metric}{{{','.join(matchers)}}}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
