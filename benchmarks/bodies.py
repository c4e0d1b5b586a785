"""Alertmanager's webhook bodies, version 4, of the size that real ones have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

TOKEN = "\x01"
"""Stands in a template for eight decimal digits that are new with every body."""


def alert(service: str, index: int) -> dict[str, Any]:
    """One instance of a service that fails, with a fingerprint and a start that no body before it had."""
    pod = f"{service}-7d9f8b6c5-{index:05d}"
    # The digits are at once a fraction of a second: within a burst, which began five minutes ago.
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    return {
        "status": "firing",
        "labels": {
            "alertname": "HighErrorRate",
            "environment": "production",
            "instance": f"10.0.{index // 250}.{index % 250}:8080",
            "job": "kubernetes-pods",
            "namespace": "shop",
            "pod": pod,
            "service": service,
            "severity": "critical",
        },
        "annotations": {
            "description": f"{pod} has answered 12.4 % of its requests with 5xx over the last five minutes.",
            "runbook_url": "https://runbooks.example.org/HighErrorRate",
            "summary": f"{service} answers with errors",
        },
        "startsAt": f"{began:%Y-%m-%dT%H:%M:%S}.{TOKEN}Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.org:9090/graph?g0.expr=rate%28errors%5B5m%5D%29+%3E+0.1&g0.tab=1",
        "fingerprint": f"{index:08x}{TOKEN}",
    }


def body(alerts: Sequence[dict[str, Any]]) -> str:
    """The group, as Alertmanager would send it."""
    first = alerts[0]["labels"]
    common = {k: v for k, v in first.items() if all(a["labels"].get(k) == v for a in alerts)}
    return json.dumps(
        {
            "receiver": "responder",
            "status": "firing",
            "alerts": list(alerts),
            "groupLabels": {"alertname": first["alertname"], "service": first["service"]},
            "commonLabels": common,
            "commonAnnotations": {},
            "externalURL": "http://alertmanager.example.org:9093",
            "version": "4",
            "groupKey": f'{{}}:{{alertname="{first["alertname"]}", service="{first["service"]}"}}',
            "truncatedAlerts": 0,
        },
        separators=(",", ":"),
    )


def template(service: str, alerts: int) -> str:
    """A body with TOKEN where every new one differs."""
    return body([alert(service, index) for index in range(alerts)]).replace(json.dumps(TOKEN)[1:-1], TOKEN)
