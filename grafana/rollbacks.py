"""The dashboard *Rollbacks*: current state, history, and the reasons of decisions."""

from __future__ import annotations

from grafana import from_series, history
from grafana.dashboard import SERVICES, Line, Row, dashboard, marks
from grafana.panels import (
    CHOSEN,
    RUNBOOK,
    STATES,
    Json,
    colored,
    column,
    gauges,
    labels,
    link,
    promql,
    stat,
    timeseries,
)


def _active(states: str) -> Json:
    """The number of executions in these states: every replica reports the same, so it takes the maximum."""
    return promql(f'sum(max by (state) (responder_executions_active{{state=~"{states}"}}))', now=True)


ARMED = stat(
    "Automation",
    "Whether automatic rollbacks are enabled. Disarmed: stopped by hand, or the watchdog is silenced or missing; "
    "`responder status` shows why.",
    promql("min(responder_armed)", now=True),
    texts={"1": ("armed", "green"), "0": ("disarmed", "red")},
)
UNDER_WAY = stat(
    "Under way",
    "Rollbacks in progress, including reverts.",
    _active("accepted|running|reverting"),
    steps=((None, "green"), (1, "blue")),
)
WAITING = stat(
    "Waiting for approval",
    "Plans that a human must approve: `responder approve ID`.",
    _active("awaiting_approval"),
    steps=((None, "green"), (1, "yellow")),
)
STUCK = stat(
    "Stuck",
    "Rollbacks that lock their service until a human closes them: `responder close ID --reason WHY`.",
    promql("max(responder_stuck_executions)", now=True),
    steps=((None, "green"), (1, "red")),
)
BRAKE = stat(
    "Circuit breaker",
    "Services in trouble within limits.circuit_breaker.within, as a share of the limit per environment: 100 % "
    "denies all automatic rollbacks.",
    promql(
        'max by (environment) (responder_services_in_trouble{environment=~"$environment"})'
        " / on () group_left () max(responder_circuit_breaker_services)",
        "{{environment}}",
        now=True,
    ),
    unit="percentunit",
    steps=((None, "green"), (0.5, "yellow"), (1, "red")),
)
JOURNAL = stat(
    "Journal",
    "Whether every replica can read the journal. A replica that cannot answers alerts with 503 and does nothing.",
    promql("min(responder_journal_up)", now=True),
    texts={"1": ("up", "green"), "0": ("down", "red")},
)
LOCKED = labels(
    "Locked services",
    "Services with an open rollback: no other rollback of them can start.",
    promql(f"max by (service, environment, state) (responder_service_locked{{{CHOSEN}}})", table=True),
    noValue="none",
    columns=(colored("state", STATES),),
)
ALERTS = labels(
    "Alerts that request a rollback",
    "Firing now in Prometheus. Only Alertmanager knows whether they are silenced.",
    promql(
        f'max by (alertname, service, environment) (ALERTS{{alertstate="firing",rollback="true",{CHOSEN}}})', table=True
    ),
    noValue="none",
    columns=(column("alertname", links=link("Runbook", RUNBOOK)),),
)
COOLDOWNS = gauges(
    "Cooldowns left",
    "Time until a policy can act on a service again.",
    promql(
        'max by (policy, service) (responder_cooldown_until_timestamp_seconds{service=~"$service"}) - time() > 0',
        "{{policy}}: {{service}}",
        now=True,
    ),
    unit="s",
    noValue="none",
    steps=((None, "blue"),),
)
FAILED_CHECKS = timeseries(
    "Failed checks, deployments and rollbacks",
    "Checks that failed within five minutes, with deployments (blue) and rollbacks (orange).",
    promql(
        f"sum by (service, environment) (check:probe_failures:count5m{{{CHOSEN}}})", "{{service}} in {{environment}}"
    ),
    unit="short",
)

NOW = Row(
    "Now",
    [
        Line(4, [(4, ARMED), (4, UNDER_WAY), (4, WAITING), (4, STUCK), (4, BRAKE), (4, JOURNAL)]),
        Line(7, [(8, LOCKED), (8, ALERTS), (8, COOLDOWNS)]),
        Line(8, [(24, FAILED_CHECKS)]),
    ],
)

DASHBOARD: Json = dashboard(
    "responder-rollbacks",
    "Rollbacks",
    "Current state, history of rollbacks, and the reasons of decisions.",
    NOW,
    history.ROW,
    from_series.ROW,
    variables=SERVICES,
    marks=marks(),
    since="now-7d",
)
