"""The same questions where the state is in SQLite: a row of the dashboard *Rollbacks* that asks only Prometheus."""

from __future__ import annotations

from grafana.counted import stages, times
from grafana.dashboard import Line, Row
from grafana.panels import CHOSEN, STATES, Json, bars, colored, column, gauges, labels, pie, promql, text, timeline

OPEN = ("accepted", "awaiting_approval", "running", "reverting", "stuck")

TOLD = text(
    "The same from series",
    "What this row is for.",
    """
The row above reads the journal's views in PostgreSQL. **With `state: sqlite:` there is nothing to read**: these panels
answer the same questions from the responder's series, as far as series can. They know no single rollback and no reason:
for those there are `responder history`, `responder explain ID` and `responder status`.

The annotations *Deployments* and *Rollbacks* come from PostgreSQL, too: switch them off above, and
*Deployments (without PostgreSQL)* on.
""",
)


def locked() -> Json:
    """The state of each service's rollback as a number, for a line of a timeline."""
    coded = (
        f'{code} * max by (service, environment) (responder_service_locked{{state="{state}",{CHOSEN}}})'
        for code, state in enumerate(OPEN, 1)
    )
    return timeline(
        "Each service, from series",
        "State of its rollback, as far as Prometheus saw it when it looked.",
        promql(" or ".join(coded), "{{service}} in {{environment}}"),
        texts={str(code): (state, STATES[state]) for code, state in enumerate(OPEN, 1)},
    )


def by_stage() -> Json:
    """Quantiles of the stages; a joined table calls them `Value #A` and `Value #B`."""
    unseen = {"Time": True, "Time 1": True, "Time 2": True}
    named = {"excludeByName": unseen, "indexByName": {}, "renameByName": {"Value #A": "p50", "Value #B": "p95"}}
    return bars(
        "From onset to verified, from series",
        "Median and 95th percentile of each stage, of all services.",
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
    "Of the rollbacks that ended in this time. One that a human closed is not counted.",
    promql(times('responder_executions_total{service=~"$service"}', "outcome"), "{{outcome}}", now=True),
    colors=STATES,
)
ROLLBACKS = labels(
    "Rollbacks, from series",
    "How many ended how in this time.",
    promql(times('responder_executions_total{service=~"$service"}', "service, strategy, outcome"), table=True),
    value="rollbacks",
    columns=(colored("outcome", STATES), column("rollbacks", unit="none")),
)
BY_GUARD = gauges(
    "Why no rollback was made, from series",
    "How often a guard denied, or that require approval; repeats of an incident are counted again.",
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
