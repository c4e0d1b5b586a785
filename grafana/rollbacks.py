"""The dashboard *Rollbacks*: what is going on now, what was done and what was not, and why."""

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
    """How many executions are in these states: every replica tells the same, so the greatest counts."""
    return promql(f'sum(max by (state) (responder_executions_active{{state=~"{states}"}}))', now=True)


ARMED = stat(
    "Automation",
    "Whether it may act on its own. Disarmed: stopped by hand, or the watchdog is silenced or stays away; "
    "`responder status` says why.",
    promql("min(responder_armed)", now=True),
    texts={"1": ("armed", "green"), "0": ("disarmed", "red")},
)
UNDER_WAY = stat(
    "Under way",
    "Rollbacks that are being carried out, forward or back.",
    _active("accepted|running|reverting"),
    steps=((None, "green"), (1, "blue")),
)
WAITING = stat(
    "Waiting for approval",
    "Plans that a human has to approve: `responder approve ID`.",
    _active("awaiting_approval"),
    steps=((None, "green"), (1, "yellow")),
)
STUCK = stat(
    "Stuck",
    "Rollbacks that lock their service until a human has looked: `responder close ID --reason WHY`.",
    promql("max(responder_stuck_executions)", now=True),
    steps=((None, "green"), (1, "red")),
)
BRAKE = stat(
    "Circuit breaker",
    "Services in trouble within limits.circuit_breaker.within, as a share of the limit of an environment: at 100 % it "
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
    "Whether every replica could read the journal. Where one cannot, it answers alerts with 503 and does nothing.",
    promql("min(responder_journal_up)", now=True),
    texts={"1": ("up", "green"), "0": ("down", "red")},
)
LOCKED = labels(
    "Locked services",
    "Services with a rollback that is not closed: no other one of them is begun.",
    promql(f"max by (service, environment, state) (responder_service_locked{{{CHOSEN}}})", table=True),
    noValue="none",
    columns=(colored("state", STATES),),
)
ALERTS = labels(
    "Alerts that ask for a rollback",
    "Firing now, as Prometheus has it. Whether they are silenced only Alertmanager knows.",
    promql(
        f'max by (alertname, service, environment) (ALERTS{{alertstate="firing",rollback="true",{CHOSEN}}})', table=True
    ),
    noValue="none",
    columns=(column("alertname", links=link("Runbook", RUNBOOK)),),
)
COOLDOWNS = gauges(
    "Cooldowns left",
    "How long until a policy may act on a service again.",
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
    "Checks that failed within five minutes, with what was deployed (blue) and rolled back (orange).",
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
    "What is going on now, what was rolled back, and why it acted or did not.",
    NOW,
    history.ROW,
    from_series.ROW,
    variables=SERVICES,
    marks=marks(),
    since="now-7d",
)
