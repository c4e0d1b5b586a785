"""A row of the dashboard *Rollbacks*: all rollbacks in the journal's views in PostgreSQL."""

from __future__ import annotations

from grafana.dashboard import Line, Row
from grafana.panels import (
    EXECUTION,
    RESULT_COLORS,
    STATES,
    bars,
    colored,
    column,
    link,
    pie,
    sql,
    table,
    timeline,
    waterfall,
)

OPEN = column("id", links=link("This rollback", EXECUTION), custom_width=240)

NOT_CLOSED = table(
    "Not closed",
    "Rollbacks that run, wait for approval or are stuck, with the reason. The ID links to the steps.",
    sql("""
SELECT id, service, environment, state, from_version, to_version, reason,
       coalesce(onset_at, firing_at, accepted_at) AS began, now() AS until
FROM rollback_history WHERE state <> 'closed' AND $of_service ORDER BY accepted_at
"""),
    noValue="none",
    columns=(OPEN, colored("state", STATES), column("reason", custom_minWidth=300)),
)
EACH_SERVICE = timeline(
    "Each service",
    "State of its rollback; after its end, the outcome until the next one starts.",
    sql("""
SELECT greatest(at, $__timeFrom()) AS time, service || ' in ' || environment AS label, state AS "Value" FROM (
    SELECT e.at, e.service, e.environment, CASE e.state WHEN 'closed' THEN x.outcome ELSE e.state END AS state,
           lead(e.at) OVER (PARTITION BY e.service, e.environment ORDER BY e.at, e.execution, e.seq) AS next
    FROM rollback_events AS e JOIN rollback_history AS x ON x.id = e.execution
    WHERE e.state IS NOT NULL AND e.at <= $__timeTo()) AS events
WHERE (next IS NULL OR next >= $__timeFrom()) AND $of_service ORDER BY 1
"""),
    by="label",
    colors=STATES,
)
OUTCOMES = pie(
    "Outcomes",
    "Outcomes of rollbacks that were accepted in this time range and are closed.",
    sql("""
SELECT outcome, count(*) AS rollbacks FROM rollback_history
WHERE $__timeFilter(accepted_at) AND outcome IS NOT NULL AND $of_service GROUP BY outcome ORDER BY rollbacks DESC
"""),
    rows=("outcome", "rollbacks"),
    colors=STATES,
)
STAGES = waterfall(
    "From onset to verified",
    "Median duration of each stage of successful rollbacks, in order.",
    sql("""
WITH medians AS (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM firing_at - onset_at)) AS fired,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM accepted_at - firing_at)) AS decided,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM acted_at - accepted_at)) AS acted,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM ended_at - acted_at)) AS verified
    FROM rollback_history WHERE outcome = 'succeeded' AND $__timeFilter(accepted_at) AND $of_service)
SELECT stage, sum(coalesce(takes, 0)) OVER (ORDER BY n) - coalesce(takes, 0) AS before, takes AS median
FROM medians CROSS JOIN LATERAL (VALUES
    (1, 'onset to alert', fired), (2, 'alert to decision', decided),
    (3, 'decision to first act', acted), (4, 'first act to verified', verified)) AS s (n, stage, takes) ORDER BY n
"""),
    over="stage",
)
EACH_BY_STAGE = bars(
    "Successful rollbacks by stage",
    "Duration of each stage of the 15 newest successful rollbacks.",
    sql("""
SELECT service || ' ' || to_char(accepted_at AT TIME ZONE 'UTC', 'MM-DD HH24:MI') AS rollback,
       extract(epoch FROM firing_at - onset_at) AS "onset to alert",
       extract(epoch FROM accepted_at - firing_at) AS "alert to decision",
       extract(epoch FROM acted_at - accepted_at) AS "decision to first act",
       extract(epoch FROM ended_at - acted_at) AS "first act to verified"
FROM rollback_history WHERE outcome = 'succeeded' AND $__timeFilter(accepted_at) AND $of_service
ORDER BY accepted_at DESC LIMIT 15
"""),
    over="rollback",
    unit="s",
    stacked=True,
)
BY_GUARD = bars(
    "Why no rollback started",
    "Incidents that a guard denied, or that require approval. What each guard checks: docs/reference/guards.md.",
    sql("""
SELECT guard, count(*) FILTER (WHERE result = 'deny') AS denied,
       count(*) FILTER (WHERE result = 'require_approval') AS approval_required
FROM rollback_decisions
WHERE $__timeFilter(last_at) AND result IN ('deny', 'require_approval') AND service ~ '^(${service:regex})$'
GROUP BY guard ORDER BY count(*) DESC
"""),
    over="guard",
    unit="short",
    stacked=True,
    columns=tuple(
        column(name, color={"mode": "fixed", "fixedColor": RESULT_COLORS[result]})
        for name, result in (("denied", "deny"), ("approval_required", "require_approval"))
    ),
)
DECISIONS = table(
    "Decisions",
    "Every decision with its reason, newest first; `times` counts repeats. The environment filter does not apply, "
    "because an alert may have no environment.",
    sql("""
SELECT last_at AS at, service, environment, result, guard, reason, times, policy, execution FROM rollback_decisions
WHERE $__timeFilter(last_at) AND service ~ '^(${service:regex})$' ORDER BY last_at DESC LIMIT 200
"""),
    columns=(
        column("at", unit="dateTimeAsIso", custom_width=170),
        colored("result", RESULT_COLORS),
        column("reason", custom_minWidth=300),
        column("times", unit="none", custom_width=70),
    ),
)
HISTORY = table(
    "History",
    "Every rollback that was accepted in this time range. The ID links to its steps, events and alerts.",
    sql("""
SELECT id, service, environment, from_version, to_version, state, outcome, duration_seconds AS took, reason, policy,
       strategy, requested_by, coalesce(onset_at, firing_at, accepted_at) AS began, coalesce(ended_at, now()) AS until
FROM rollback_history WHERE $__timeFilter(accepted_at) AND $of_service ORDER BY accepted_at DESC LIMIT 500
"""),
    columns=(
        OPEN,
        colored("state", STATES),
        colored("outcome", STATES),
        column("took", unit="s", custom_width=90),
        column("reason", custom_minWidth=250),
    ),
)

ROW = Row(
    "History and decisions (PostgreSQL)",
    [
        Line(6, [(24, NOT_CLOSED)]),
        Line(8, [(24, EACH_SERVICE)]),
        Line(9, [(6, OUTCOMES), (9, STAGES), (9, EACH_BY_STAGE)]),
        Line(9, [(8, BY_GUARD), (16, DECISIONS)]),
        Line(10, [(24, HISTORY)]),
    ],
)
