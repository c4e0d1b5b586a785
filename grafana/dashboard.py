"""A dashboard of panels: laid out in rows over 24 columns, with its variables, links and annotations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from grafana.panels import CHOSEN, POSTGRES, PROMETHEUS, Json, sql

SCHEMA = 39
"""The schema version of Grafana 11.0; newer versions migrate it when they load the dashboard."""


class Line(NamedTuple):
    """Panels beside each other, each with its width; the widths add up to 24."""

    height: int
    panels: Sequence[tuple[int, Json]]


class Row(NamedTuple):
    """Lines under a heading; a collapsed row runs no query until it is opened."""

    title: str
    lines: Sequence[Line]
    folded: bool = False


def dashboard(
    uid: str,
    title: str,
    description: str,
    *rows: Row,
    variables: Sequence[Json] = (),
    marks: Sequence[Json] = (),
    since: str = "now-24h",
) -> Json:
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["rollback-responder"],
        "schemaVersion": SCHEMA,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": since, "to": "now"},
        "links": _links(),
        "templating": {"list": [*_datasources(), *variables]},
        "annotations": {"list": list(marks)},
        "panels": _laid_out(rows),
    }


def _laid_out(rows: Sequence[Row]) -> list[Json]:
    panels: list[Json] = []
    numbers, y = count(1), 0
    for row in rows:
        heading = {"type": "row", "title": row.title, "collapsed": row.folded, "panels": []}
        panels.append({"id": next(numbers), **heading, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        inside = panels[-1]["panels"] if row.folded else panels
        y += 1
        for line in row.lines:
            x = 0
            for width, panel in line.panels:
                inside.append({"id": next(numbers), **panel, "gridPos": {"x": x, "y": y, "w": width, "h": line.height}})
                x += width
            y += line.height
    return panels


# --- variables -------------------------------------------------------------------------------------------------------
def _datasources() -> list[Json]:
    """A data source variable. The provisioned one is the default; any other of its kind can be selected."""
    return [
        _variable("datasource", name, label, query=kind, current={"text": text, "value": uid}, regex="")
        for name, label, kind, text, uid in (
            ("prometheus_datasource", "Prometheus", "prometheus", "Prometheus", "prometheus"),
            ("postgres_datasource", "PostgreSQL", POSTGRES["type"], "Responder", "responder-postgres"),
            ("alertmanager_datasource", "Alertmanager", "alertmanager", "Alertmanager", "alertmanager"),
        )
    ]


def of_label(name: str, label: str, series: str) -> Json:
    """A variable with the values of a label; several of them or all can be selected."""
    query = {"query": f"label_values({series}, {name})", "refId": name}
    everything = {"includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    return _variable(
        "query", name, label, datasource=PROMETHEUS, query=query, refresh=2, sort=1, regex="", **everything
    )


def of_rows(name: str, label: str, text: str, *, shown: bool = True) -> Json:
    """A variable with one of the values that a query returns."""
    more = {"includeAll": False, "multi": False, "current": {}, "regex": "", "sort": 0, "refresh": 1}
    return _variable("query", name, label, datasource=POSTGRES, query=text, hide=0 if shown else 2, **more)


def _variable(kind: str, name: str, label: str, **more: object) -> Json:
    return {"type": kind, "name": name, "label": label, "hide": 0, **more}


SERVICES = (
    of_label("environment", "Environment", "responder_deployment_info"),
    of_label("service", "Service", 'responder_deployment_info{environment=~"$environment"}'),
)


# --- annotations ----------------------------------------------------------------------------------------------------
DEPLOYED = """
SELECT at AS time, service || ' ' || version || ' deployed in ' || environment AS text,
       'deployment,' || service || ',' || environment AS tags
FROM deployments WHERE rolled_back_by IS NULL AND $__timeFilter(at) AND """

ROLLED_BACK = """
SELECT accepted_at AS time, coalesce(ended_at, now()) AS timeend,
       service || ': ' || from_version || ' → ' || to_version || ', ' || coalesce(outcome, state) || ' (' || id || ')'
           AS text,
       'rollback,' || service || ',' || environment AS tags
FROM rollback_history
WHERE accepted_at <= $__timeTo() AND coalesce(ended_at, now()) >= $__timeFrom() AND """


def marks(*, of_service: bool = True) -> list[Json]:
    """Deployments and rollbacks on every graph, from SQL: it needs no token and stores nothing in Grafana.

    Without PostgreSQL, the last annotation can be enabled instead.
    """
    chosen = "$of_service" if of_service else "TRUE"
    return [
        _mark("Deployments", "blue", datasource=POSTGRES, target={"refId": "Anno", **sql(DEPLOYED + chosen)}),
        _mark("Rollbacks", "orange", datasource=POSTGRES, target={"refId": "Anno", **sql(ROLLED_BACK + chosen)}),
        _mark(
            "Deployments (without PostgreSQL)",
            "blue",
            enable=False,
            datasource=PROMETHEUS,
            expr="1000 * max by (service, environment) "
            f"(responder_deployment_timestamp_seconds{{{CHOSEN if of_service else ''}}})",
            step="60s",
            useValueForTime=True,
            titleFormat="{{service}} deployed in {{environment}}",
            tagKeys="service,environment",
        ),
    ]


def _mark(name: str, color: str, *, enable: bool = True, **more: object) -> Json:
    return {"name": name, "enable": enable, "hide": False, "iconColor": color, **more}


def _links() -> list[Json]:
    there = {"asDropdown": False, "icon": "external link", "includeVars": True, "keepTime": True, "targetBlank": False}
    ours = {**there, "type": "dashboards", "title": "", "tags": ["rollback-responder"], "tooltip": "", "url": ""}
    silences = "/alerting/silences?alertmanager=${alertmanager_datasource:text}"
    tooltip = "Silences of Alertmanager: a silence of its alerts stops a rollback"
    away = {**there, "includeVars": False, "keepTime": False, "tags": []}
    return [ours, {**away, "type": "link", "title": "Silences", "tooltip": tooltip, "url": silences}]
