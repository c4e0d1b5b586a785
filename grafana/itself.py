"""The dashboard *Responder itself*: webhooks, errors, queue, journal and latency, from its own series only."""

from __future__ import annotations

from grafana.counted import quantile, times
from grafana.dashboard import Line, Row, dashboard, marks, of_label
from grafana.panels import RUNBOOK, STATES, Json, column, gauges, labels, link, promql, stat, timeline, timeseries

REPLICA = 'instance=~"$instance"'


def rate(series: str, by: str) -> str:
    return f"sum by ({by}) (rate({series}{{{REPLICA}}}[$__rate_interval]))"


UP = timeline(
    "Replicas",
    "Whether Prometheus can scrape each replica.",
    promql(f'up{{job="responder",{REPLICA}}}', "{{instance}}"),
    texts={"1": ("up", "green"), "0": ("down", "red")},
)
ARMED = timeline(
    "Armed",
    "Whether automatic rollbacks are enabled on each replica.",
    promql(f"responder_armed{{{REPLICA}}}", "{{instance}}"),
    texts={"1": ("armed", "green"), "0": ("disarmed", "red")},
)
RELOADED = stat(
    "Configuration",
    "Whether the last configuration reload succeeded on every replica.",
    promql(f"min(responder_config_last_reload_successful{{{REPLICA}}})", now=True),
    texts={"1": ("newest", "green"), "0": ("refused", "red")},
)
UPTIME = stat(
    "Youngest replica",
    "Time since the latest start of a replica.",
    promql(f'time() - max(process_start_time_seconds{{job="responder",{REPLICA}}})', now=True),
    unit="s",
    steps=((None, "blue"),),
)
ALERTS = labels(
    "Alerts about the responder",
    "Alerts that are pending or firing now. `RollbackAutomationArmed` is the watchdog and always fires.",
    promql(
        "max by (alertname, alertstate) "
        '(ALERTS{alertname=~"Responder.+|Rollback.+|RuleEvaluationFailing|DeploymentsNotReported"})',
        table=True,
    ),
    columns=(column("alertname", links=link("Runbook", RUNBOOK)),),
)
WEBHOOKS = timeseries(
    "Webhooks",
    "Webhooks by result. The watchdog alone sends one per minute.",
    promql(rate("responder_webhooks_total", "outcome"), "{{outcome}}"),
    unit="reqps",
)
RECEIVED = timeseries(
    "Alerts received",
    "Alerts received, firing and resolved, including repeats.",
    promql(rate("responder_alerts_total", "status"), "{{status}}"),
    unit="cps",
)
ANSWERS = timeseries(
    "Webhook latency",
    "Time to answer a webhook: Alertmanager retries after its own timeout.",
    promql(quantile(0.5, "responder_webhook_duration_seconds"), "median"),
    promql(quantile(0.95, "responder_webhook_duration_seconds"), "95th percentile"),
    promql(quantile(0.99, "responder_webhook_duration_seconds"), "99th percentile"),
    unit="s",
)
ERRORS = gauges(
    "Errors",
    "Webhooks that were not accepted: `unavailable` (no journal), `overloaded`, `invalid`, `failed` (a bug).",
    promql(times('responder_webhooks_total{outcome!="accepted"}', "outcome"), "{{outcome}}", now=True),
    unit="short",
    noValue="none",
    steps=((None, "orange"),),
)
UNDELIVERED = timeseries(
    "Undelivered alerts",
    "Failed webhook deliveries of Alertmanager, and alerts queued in Prometheus for Alertmanager.",
    promql(
        'sum by (instance) (rate(alertmanager_notifications_failed_total{integration="webhook"}[$__rate_interval]))',
        "{{instance}}: failed per second",
    ),
    promql("sum by (instance) (prometheus_notifications_queue_length)", "{{instance}}: waiting"),
    unit="short",
)
QUEUE = timeseries(
    "Queue",
    "Open rollbacks by state: `accepted` waits for a worker, `awaiting_approval` and `stuck` for a human.",
    promql("max by (state) (responder_executions_active)", "{{state}}"),
    unit="short",
    columns=tuple(
        column(state, color={"mode": "fixed", "fixedColor": color}) for state, color in list(STATES.items())[:5]
    ),
)
JOURNAL = timeline(
    "Journal",
    "Whether the last read of the journal succeeded.",
    promql(f"responder_journal_up{{{REPLICA}}}", "{{instance}}"),
    texts={"1": ("up", "green"), "0": ("down", "red")},
)
READING = timeseries(
    "Journal read latency",
    "Time to read the journal for its series: a slow database shows here first.",
    promql(f"responder_journal_read_seconds{{{REPLICA}}}", "{{instance}}"),
    unit="s",
)
STAGES = timeseries(
    "Latency by stage",
    "95th percentile since the previous stage: `received` and `decided` end with a decision, `started` with work.",
    promql(quantile(0.95, "responder_stage_seconds", "stage"), "{{stage}}"),
    unit="s",
)
STEPS = timeseries(
    "Steps",
    "95th percentile by kind of resource; `gate` waits for checks, `back` is a revert step.",
    promql(quantile(0.95, "responder_step_duration_seconds", "resource"), "{{resource}}"),
    unit="s",
)
DECISIONS = timeseries(
    "Decisions",
    "Decisions by the deciding guard, including repeats.",
    promql(rate("responder_decisions_total", "result, guard"), "{{result}}: {{guard}}"),
    unit="cps",
)
CPU = timeseries(
    "CPU",
    "CPU time per second of each replica.",
    promql(f'rate(process_cpu_seconds_total{{job="responder",{REPLICA}}}[$__rate_interval])', "{{instance}}"),
    unit="percentunit",
)
MEMORY = timeseries(
    "Memory",
    "Resident memory of each replica.",
    promql(f'process_resident_memory_bytes{{job="responder",{REPLICA}}}', "{{instance}}"),
    unit="bytes",
)
FILES = timeseries(
    "Open files",
    "Open file descriptors of each replica.",
    promql(f'process_open_fds{{job="responder",{REPLICA}}}', "{{instance}}"),
    unit="short",
)

DASHBOARD: Json = dashboard(
    "responder-itself",
    "Responder itself",
    "Whether alerts arrive, are journaled and are decided in time.",
    Row(
        "Replicas",
        [Line(6, [(8, UP), (8, ARMED), (4, RELOADED), (4, UPTIME)])],
    ),
    Row(
        "Webhooks and errors",
        [
            Line(7, [(8, WEBHOOKS), (8, RECEIVED), (8, ANSWERS)]),
            Line(7, [(8, ERRORS), (8, UNDELIVERED), (8, ALERTS)]),
        ],
    ),
    Row(
        "Queue, journal and latency",
        [
            Line(7, [(8, QUEUE), (8, JOURNAL), (8, READING)]),
            Line(7, [(8, STAGES), (8, STEPS), (8, DECISIONS)]),
        ],
    ),
    Row("Process", [Line(7, [(8, CPU), (8, MEMORY), (8, FILES)])]),
    variables=(of_label("instance", "Replica", "responder_journal_up"),),
    marks=marks(of_service=False),
)
