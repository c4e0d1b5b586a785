"""The dashboard *Services*: health by check, running versions, rollback targets and quarantined versions."""

from __future__ import annotations

from grafana.dashboard import SERVICES, Line, Row, dashboard, marks
from grafana.panels import (
    CHOSEN,
    PROBE_JOB,
    VERSIONS,
    Json,
    colored,
    column,
    labels,
    promql,
    sql,
    table,
    text,
    timeline,
    timeseries,
)

PLACE = "{{service}} in {{environment}}"

HEALTH = timeline(
    "Health by check",
    "Result of each check. A gap is a missing sample, which is neither success nor failure.",
    promql(
        f"max by (service, environment, check_id) (probe_success{{{PROBE_JOB},{CHOSEN}}})",
        "{{service}} in {{environment}}: {{check_id}}",
    ),
    texts={"1": ("healthy", "green"), "0": ("failing", "red")},
)
REASONS = labels(
    "Failing checks",
    "Checks that fail now, with the reason from the exporter.",
    promql(
        "max by (service, environment, check_id, reason) (label_replace("
        f'{{__name__=~"probe_failed_due_to_.+",{PROBE_JOB},{CHOSEN}}} == 1, '
        '"reason", "$1", "__name__", "probe_failed_due_to_(.+)"))',
        table=True,
    ),
    noValue="none",
)
DURATION = timeseries(
    "Check duration",
    "Slowest check of each service.",
    promql(f"max by (service, environment) (probe_duration_seconds{{{PROBE_JOB},{CHOSEN}}})", PLACE),
    unit="s",
)
ERRORS = timeseries(
    "Error ratio",
    "Share of requests answered with 5xx within five minutes (alert_rules/errors.yml).",
    promql(f"service_environment:http_errors:ratio5m{{{CHOSEN}}}", PLACE),
    unit="percentunit",
)
LATENCY = timeseries(
    "Latency, 95th percentile",
    "95th percentile of requests within five minutes (alert_rules/latency.yml).",
    promql(f"service_environment:http_request_duration_seconds:p95_5m{{{CHOSEN}}}", PLACE),
    unit="s",
)
TROUBLE = timeline(
    "Trouble",
    "Conditions of the alert rules, regardless of deployments.",
    promql(
        f"max by (service, environment, alertname) (service_environment:trouble{{{CHOSEN}}} > bool -1)",
        "{{service}} in {{environment}}: {{alertname}}",
    ),
    texts={"1": ("trouble", "orange")},
)
RUNNING = labels(
    "What runs",
    "The version that was last reported or restored by a rollback, with its status.",
    promql(
        f"max by (service, environment, version, status, deployment_id) (responder_deployment_info{{{CHOSEN}}})",
        table=True,
    ),
    columns=(colored("status", VERSIONS),),
)
TARGETS = labels(
    "Last good",
    "Rollback target: the newest known good version that does not run. A service without one cannot be rolled back.",
    promql(f"max by (service, environment, version) (responder_target_info{{{CHOSEN}}})", table=True),
    noValue="none",
)
AGE = labels(
    "Deployed",
    "Time since the running version was deployed; absent if a rollback restored it. A policy acts only within "
    "`deployed_within`.",
    promql(f"time() - max by (service, environment) (responder_deployment_timestamp_seconds{{{CHOSEN}}})", table=True),
    value="ago",
    columns=(column("ago", unit="s"),),
)
QUARANTINED = table(
    "Quarantined",
    "Versions that are never a rollback target: `bad` was rolled back, `suspect` did not recover after a rollback. "
    "Release one with `responder mark SERVICE VERSION good`.",
    sql("""
SELECT service, environment, version, status, reason, status_at AS since, deployed_at FROM service_versions
WHERE status IN ('bad', 'suspect') AND $of_service ORDER BY status_at DESC LIMIT 200
"""),
    noValue="none",
    columns=(colored("status", VERSIONS), column("reason", custom_minWidth=250)),
)
GOOD = table(
    "Versions",
    "Every version that is not quarantined, newest first. A version with `no_rollback` is never rolled back.",
    sql("""
SELECT service, environment, version, status, CASE WHEN runs THEN 'runs' ELSE '' END AS now, deployed_at, reason,
       no_rollback
FROM service_versions WHERE status NOT IN ('bad', 'suspect') AND $of_service
ORDER BY deployed_at DESC NULLS LAST LIMIT 200
"""),
    columns=(colored("status", VERSIONS),),
)
DEPLOYMENTS = table(
    "Deployments",
    "Reported deployments, and versions that rollbacks restored.",
    sql("""
SELECT at, service, environment, version, status, recorded_by, coalesce(rolled_back_by, '') AS rolled_back_by, artifact
FROM deployments WHERE $__timeFilter(at) AND $of_service ORDER BY at DESC LIMIT 500
"""),
    columns=(column("at", unit="dateTimeAsIso", custom_width=170), colored("status", VERSIONS)),
)

TOLD = text(
    "Without PostgreSQL",
    "When to use this row.",
    """
The row above reads the views in PostgreSQL. **With `state: sqlite:`**, series show the running version and the rollback
target (*What runs*, *Last good*), and the number of quarantined versions. List them with `responder versions SERVICE`.
""",
)
COUNTS = labels(
    "Versions by status",
    "Number of known versions; `bad` and `suspect` are quarantined.",
    promql(f"max by (service, environment, status) (responder_versions{{{CHOSEN}}})", table=True),
    value="versions",
    columns=(colored("status", VERSIONS), column("versions", unit="none")),
)

DASHBOARD: Json = dashboard(
    "responder-services",
    "Services",
    "Health of each service, its running version, and its good and quarantined versions.",
    Row(
        "Health",
        [
            Line(9, [(24, HEALTH)]),
            Line(7, [(12, TROUBLE), (12, REASONS)]),
            Line(7, [(8, DURATION), (8, ERRORS), (8, LATENCY)]),
        ],
    ),
    Row("Versions", [Line(7, [(10, RUNNING), (7, TARGETS), (7, AGE)])]),
    Row(
        "Versions, with reasons (PostgreSQL)",
        [Line(8, [(24, QUARANTINED)]), Line(8, [(24, GOOD)]), Line(8, [(24, DEPLOYMENTS)])],
    ),
    Row("Without PostgreSQL (state in SQLite)", [Line(7, [(12, TOLD), (12, COUNTS)])], folded=True),
    variables=SERVICES,
    marks=marks(),
)
