"""The dashboard *One execution*: its stages, steps, events and alerts, and the health of its service meanwhile."""

from __future__ import annotations

from grafana.counted import quantile
from grafana.dashboard import SERVICES, Line, Row, dashboard, marks, of_rows
from grafana.from_series import locked
from grafana.panels import (
    PROBE_JOB,
    RESULT_COLORS,
    RESULTS,
    RUNBOOK,
    STATES,
    Json,
    colored,
    column,
    labels,
    link,
    promql,
    sql,
    table,
    text,
    timeline,
    timeseries,
    waterfall,
)

ZOOM = (
    "/d/responder-execution?var-execution=${execution}"
    "&from=${__data.fields.began.numeric}&to=${__data.fields.until.numeric}"
    "&${prometheus_datasource:queryparam}&${postgres_datasource:queryparam}"
)

VARIABLES = (
    of_rows("execution", "Execution", "SELECT id FROM rollback_history ORDER BY accepted_at DESC LIMIT 1000"),
    of_rows("its_service", "", "SELECT service FROM rollback_history WHERE id = '$execution'", shown=False),
    of_rows("its_environment", "", "SELECT environment FROM rollback_history WHERE id = '$execution'", shown=False),
    *SERVICES,
)
ITS = 'service="$its_service",environment="$its_environment"'

ITSELF = table(
    "The rollback",
    "Trigger, outcome and duration. The link under `began` sets the dashboard to the time range of this rollback.",
    sql("""
SELECT service, environment, from_version, to_version, state, outcome, reason, duration_seconds AS took, changed,
       policy, strategy, requested_by, coalesce(onset_at, firing_at, accepted_at) AS began,
       coalesce(ended_at, now()) AS until,
       (SELECT location FROM rollback_archive WHERE execution = '$execution') AS archived_in
FROM rollback_history WHERE id = '$execution'
"""),
    columns=(
        colored("state", STATES),
        colored("outcome", STATES),
        column("took", unit="s"),
        column("reason", custom_minWidth=300),
        column("began", links=link("Show this time range", ZOOM)),
    ),
)
STAGES = waterfall(
    "From onset to verified",
    "Duration of each stage, in order; a stage in progress counts until now.",
    sql("""
SELECT stage, greatest(extract(epoch FROM starts - first), 0) AS before,
       greatest(extract(epoch FROM ends - starts), 0) AS took
FROM rollback_history AS x
CROSS JOIN LATERAL (SELECT coalesce(onset_at, firing_at, accepted_at) AS first, coalesce(ended_at, now()) AS last) AS t
CROSS JOIN LATERAL (VALUES
    (1, 'onset to alert', onset_at, firing_at), (2, 'alert to decision', firing_at, accepted_at),
    (3, 'decision to first act', accepted_at, coalesce(acted_at, last)), (4, 'first act to end', acted_at, last)
) AS s (n, stage, starts, ends)
WHERE id = '$execution' AND starts IS NOT NULL ORDER BY n
"""),
    over="stage",
)
TIMELINE = timeline(
    "Steps over time",
    "When each step ran, and its result. The link under `began` above selects the time range of the rollback.",
    sql("""
SELECT at AS time, label, state AS "Value" FROM rollback_steps AS s
CROSS JOIN LATERAL (SELECT lpad(step::text, 2, '0') || ' ' || title AS label) AS named
CROSS JOIN LATERAL (VALUES
    (started_at, CASE WHEN ended_at IS NULL THEN 'in progress' ELSE result END), (ended_at, NULL)) AS v (at, state)
WHERE execution = '$execution' AND at IS NOT NULL ORDER BY 1
"""),
    by="label",
    colors=RESULTS,
)
STEPS = table(
    "Steps",
    "Forward and revert steps, in order. A step that was started again after a crash has its own row.",
    sql("""
SELECT step, title, result, extract(epoch FROM coalesce(ended_at, now()) - started_at) AS took, note, started_at
FROM rollback_steps WHERE execution = '$execution' ORDER BY started_at, step
"""),
    columns=(
        column("step", unit="none", custom_width=60),
        column("title", custom_minWidth=250),
        colored("result", RESULTS),
        column("took", unit="s", custom_width=90),
        column("note", custom_minWidth=250),
    ),
)
EVENTS = table(
    "Events",
    "The journal: written before each action, and never changed.",
    sql("""
SELECT seq, at, type, state, coalesce(title, '') AS step, note FROM rollback_events
WHERE execution = '$execution' ORDER BY seq
"""),
    columns=(
        column("seq", unit="none", custom_width=60),
        column("at", unit="dateTimeAsIso", custom_width=170),
        colored("state", STATES),
        column("note", custom_minWidth=300),
    ),
)
ALERTS = table(
    "Alerts",
    "Alerts that triggered it. The name links to the runbook, the source to the expression in Prometheus.",
    sql("""
SELECT alertname, starts_at, summary, labels, generator_url AS source FROM rollback_alerts
WHERE execution = '$execution' ORDER BY starts_at, alertname
"""),
    noValue="none: requested by a person",
    columns=(
        column("alertname", links=link("Runbook", RUNBOOK)),
        column("labels", custom_minWidth=250),
        column("source", links=link("In Prometheus", "${__value.raw:raw}")),  # already URL-encoded
    ),
)
DECISIONS = table(
    "Decisions",
    "Decisions about its service from one hour before the rollback until its end, allowed and denied.",
    sql("""
SELECT d.last_at AS at, d.result, d.guard, d.reason, d.times, d.policy FROM rollback_decisions AS d
JOIN rollback_history AS x ON x.service = d.service AND x.environment = d.environment
WHERE x.id = '$execution'
  AND d.last_at BETWEEN x.accepted_at - interval '1 hour' AND coalesce(x.ended_at, now()) ORDER BY d.last_at
"""),
    columns=(
        column("at", unit="dateTimeAsIso", custom_width=170),
        colored("result", RESULT_COLORS),
        column("reason", custom_minWidth=250),
        column("times", unit="none", custom_width=70),
    ),
)
EVIDENCE = table(
    "Evidence",
    "Logs and context that were collected before the first change. List and fetch them with `responder evidence ID`.",
    sql("""
SELECT state, location, files, missing, bytes, problem, kept_at FROM evidence_kept WHERE execution = '$execution'
"""),
    noValue="none",
    columns=(
        column("location", custom_minWidth=300),
        column("files", unit="none"),
        column("missing", unit="none"),
        column("bytes", unit="bytes"),
    ),
)
HEALTH = timeline(
    "Checks of the service",
    "Results of every check of the service.",
    promql(f"max by (check_id) (probe_success{{{PROBE_JOB},{ITS}}})", "{{check_id}}"),
    texts={"1": ("healthy", "green"), "0": ("failing", "red")},
)
FIRING = timeline(
    "Alerts of the service",
    "When alerts of the service were pending and firing.",
    promql(
        f'max by (alertname) (ALERTS{{alertstate="firing",{ITS}}} * 2 or ALERTS{{alertstate="pending",{ITS}}})',
        "{{alertname}}",
    ),
    texts={"1": ("pending", "yellow"), "2": ("firing", "red")},
)

TOLD = text(
    "Without PostgreSQL",
    "When to use this row.",
    """
The panels above read one execution from the journal's views in PostgreSQL. **With `state: sqlite:`**, use
`responder explain ID` or `GET /api/v1/executions/{id}`. Series have no label for the ID of an execution. The panels
below show rollbacks of the selected *service* in the selected time range.
""",
)
STEP_TIMES = timeseries(
    "Step duration",
    "95th percentile by kind of resource, all services; `gate` waits for checks, `back` is a revert step.",
    promql(quantile(0.95, "responder_step_duration_seconds", "resource"), "{{resource}}"),
    unit="s",
)
STAGE_TIMES = timeseries(
    "Stage duration",
    "95th percentile of each stage, from the end of the previous one, all services.",
    promql(quantile(0.95, "responder_stage_seconds", "stage"), "{{stage}}"),
    unit="s",
)
CHOSEN_ALERTS = labels(
    "Alerts of the selected services",
    "Alerts that are pending or firing now.",
    promql(
        "max by (alertname, alertstate, service, environment) "
        '(ALERTS{service=~"$service",environment=~"$environment"})',
        table=True,
    ),
    noValue="none",
    columns=(column("alertname", links=link("Runbook", RUNBOOK)),),
)

DASHBOARD: Json = dashboard(
    "responder-execution",
    "One execution",
    "One rollback from the onset of the problem to its end: actions, times and reasons.",
    Row(
        "From the journal (PostgreSQL)",
        [
            Line(4, [(24, ITSELF)]),
            Line(9, [(9, STAGES), (15, TIMELINE)]),
            Line(8, [(24, STEPS)]),
            Line(9, [(24, EVENTS)]),
            Line(8, [(12, ALERTS), (12, DECISIONS)]),
            Line(4, [(24, EVIDENCE)]),
            Line(8, [(12, HEALTH), (12, FIRING)]),
        ],
    ),
    Row(
        "Without PostgreSQL (state in SQLite)",
        [
            Line(4, [(24, TOLD)]),
            Line(8, [(12, locked()), (12, CHOSEN_ALERTS)]),
            Line(8, [(12, STEP_TIMES), (12, STAGE_TIMES)]),
        ],
        folded=True,
    ),
    variables=VARIABLES,
    marks=marks(),
)
