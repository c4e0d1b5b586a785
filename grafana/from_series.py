"""A row of the dashboard *Rollbacks* that uses only Prometheus, for a responder with its state in SQLite."""

from __future__ import annotations

from grafana.counted import stages, times
from grafana.dashboard import Line, Row
from grafana.panels import CHOSEN, STATES, Json, bars, colored, column, gauges, labels, pie, promql, text, timeline

OPEN = ("accepted", "awaiting_approval", "running", "reverting", "stuck")

TOLD = text(
    "The same from series",
    "When to use this row.",
    """
The row above reads the journal's views in PostgreSQL. **With `state: sqlite:` it stays empty**. These panels use the
responder's series instead. Series contain neither single rollbacks nor reasons: use `responder history`,
`responder explain ID` and `responder status`.

The annotations *Deployments* and *Rollbacks* also come from PostgreSQL. Disable them above, and enable
*Deployments (without PostgreSQL)*.
""",
)


def locked() -> Json:
    """The state of each service's rollback as a number, for a state timeline."""
    coded = (
        f'{code} * max by (service, environment) (responder_service_locked{{state="{state}",{CHOSEN}}})'
        for code, state in enumerate(OPEN, 1)
    )
    return timeline(
        "Each service, from series",
        "State of its rollback at each scrape; shorter states are not visible.",
        promql(" or ".join(coded), "{{service}} in {{environment}}"),
        texts={str(code): (state, STATES[state]) for code, state in enumerate(OPEN, 1)},
    )


def by_stage() -> Json:
    """Quantiles of the stages; a joined table calls them `Value #A` and `Value #B`."""
    unseen = {"Time": True, "Time 1": True, "Time 2": True}
    named = {"excludeByName": unseen, "indexByName": {}, "renameByName": {"Value #A": "p50", "Value #B": "p95"}}
    return bars(
        "From onset to verified, from series",
        "Median and 95th percentile of each stage, all services.",
        promql(stages(0.5), table=True),
        promql(stages(0.95), table=True),
        over="stage",
        unit="s",
        transformations=(
            {"id": "joinByField", "options": {"byField": "stage", "mode": "outer"}},
            {"id": "organize", "options": named},
            {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": "stage", "desc": False}]}},
        ),
    )


OUTCOMES = pie(
    "Outcomes, from series",
    "Outcomes of rollbacks that ended in this time range, without those that a human closed.",
    promql(times('responder_executions_total{service=~"$service"}', "outcome"), "{{outcome}}", now=True),
    colors=STATES,
)
ROLLBACKS = labels(
    "Rollbacks, from series",
    "Rollbacks that ended in this time range, by outcome.",
    promql(times('responder_executions_total{service=~"$service"}', "service, strategy, outcome"), table=True),
    value="rollbacks",
    columns=(colored("outcome", STATES), column("rollbacks", unit="none")),
)
BY_GUARD = gauges(
    "Why no rollback started, from series",
    "Decisions that a guard denied or that require approval; repeats of an incident count again.",
    promql(
        times('responder_decisions_total{result=~"deny|require_approval"}', "guard, result"),
        "{{guard}}: {{result}}",
        now=True,
    ),
    unit="short",
    steps=((None, "orange"),),
)

ROW = Row(
    "Without PostgreSQL (state in SQLite)",
    [
        Line(5, [(24, TOLD)]),
        Line(8, [(24, locked())]),
        Line(9, [(6, OUTCOMES), (9, by_stage()), (9, ROLLBACKS)]),
        Line(9, [(24, BY_GUARD)]),
    ],
    folded=True,
)
