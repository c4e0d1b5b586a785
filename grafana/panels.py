"""Grafana panels as JSON, each with a title, a description and a unit."""

from __future__ import annotations

from typing import Any

from responder.assets import RUNBOOK_URL

Json = dict[str, Any]

PROMETHEUS = {"type": "prometheus", "uid": "${prometheus_datasource}"}
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "${postgres_datasource}"}

PROBE_JOB = 'job="probes"'  # blackbox_exporter has series of the same names
CHOSEN = 'service=~"$service",environment=~"$environment"'
"""PromQL matchers for the selected services and environments."""

OF_SERVICE = "service ~ '^(${service:regex})$' AND environment ~ '^(${environment:regex})$'"
"""The same in SQL, written as `$of_service`; `All` includes services that no longer exist."""

RUNBOOK = f"{RUNBOOK_URL}/${{__value.raw}}"
EXECUTION = (
    "/d/responder-execution?var-execution=${__value.raw}"
    "&from=${__data.fields.began.numeric}&to=${__data.fields.until.numeric}"
    "&${prometheus_datasource:queryparam}&${postgres_datasource:queryparam}"
)

STATES = {
    "accepted": "light-blue",
    "awaiting_approval": "yellow",
    "running": "blue",
    "reverting": "orange",
    "stuck": "red",
    "succeeded": "green",
    "mitigated": "green",
    "reverted": "orange",
    "cancelled": "text",
    "failed": "red",
}
"""Colors of the states of executions, and of the outcomes of closed ones."""

VERSIONS = {"candidate": "blue", "good": "green", "suspect": "orange", "bad": "red"}
RESULT_COLORS = {"allow": "green", "require_approval": "yellow", "deny": "orange", "ignore": "text"}
RESULTS = {"in progress": "blue", "step_completed": "green", "step_failed": "red"}


# --- queries ---------------------------------------------------------------------------------------------------------
def promql(expr: str, legend: str = "", *, table: bool = False, now: bool = False) -> Json:
    """A query over the selected time range; `now` returns the last value only, `table` returns labels as columns."""
    instant = now or table
    target: Json = {"datasource": PROMETHEUS, "expr": expr, "editorMode": "code", "instant": instant}
    return {**target, "range": not instant, "legendFormat": legend, "format": "table" if table else "time_series"}


def sql(text: str) -> Json:
    return {
        "datasource": POSTGRES,
        "rawSql": text.strip().replace("$of_service", OF_SERVICE),
        "rawQuery": True,
        "editorMode": "code",
        "format": "table",
    }


# --- display ---------------------------------------------------------------------------------------------------------
def panel(
    kind: str,
    title: str,
    description: str,
    *queries: Json,
    unit: str,
    options: Json,
    colors: dict[str, str] | None = None,
    texts: dict[str, tuple[str, str]] | None = None,
    steps: tuple[tuple[float | None, str], ...] = ((None, "text"),),
    columns: tuple[Json, ...] = (),
    transformations: tuple[Json, ...] = (),
    **defaults: Any,
) -> Json:
    """`colors` maps texts to colors, `texts` also maps them to other texts; `steps` color numbers."""
    mappings = {**{value: (value, color) for value, color in (colors or {}).items()}, **(texts or {})}
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": queries[0]["datasource"],
        "targets": [{"refId": chr(ord("A") + number), **query} for number, query in enumerate(queries)],
        "transformations": list(transformations),
        "options": options,
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "color": {"mode": "palette-classic" if kind in _MANY else "thresholds"},
                "mappings": _mappings(mappings),
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"color": color, "value": value} for value, color in steps],
                },
                **defaults,
            },
            "overrides": list(columns),
        },
    }


def _mappings(texts: dict[str, tuple[str, str]]) -> list[Json]:
    shown = {
        value: {"text": text, "color": color, "index": n} for n, (value, (text, color)) in enumerate(texts.items())
    }
    return [{"type": "value", "options": shown}] if shown else []


_MANY = ("timeseries", "barchart", "piechart")
"""Options of panels that show many series, each in its own color."""


def column(name: str, **properties: Any) -> Json:
    """Overrides of one column or series; `_` in a property stands for the dot in Grafana's name."""
    settings = [{"id": key.replace("custom_", "custom."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": settings}


def link(title: str, url: str) -> list[Json]:
    return [{"title": title, "url": url, "targetBlank": url.startswith("https:")}]


def colored(name: str, colors: dict[str, str]) -> Json:
    """A column of colored texts."""
    mappings = _mappings({value: (value, color) for value, color in colors.items()})
    return column(name, mappings=mappings, custom_cellOptions={"type": "color-text"}, custom_width=130)


def stat(title: str, description: str, *queries: Json, unit: str = "none", **more: Any) -> Json:
    """The current value, as a number or a text."""
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    options = {"colorMode": "background", "graphMode": "none", "justifyMode": "center", "textMode": "auto"}
    return panel("stat", title, description, *queries, unit=unit, options={**options, "reduceOptions": last}, **more)


def table(title: str, description: str, *queries: Json, **more: Any) -> Json:
    unit = more.pop("unit", "string")
    custom = {"align": "auto", "filterable": True}
    return panel("table", title, description, *queries, unit=unit, options={"showHeader": True}, custom=custom, **more)


def labels(title: str, description: str, query: Json, *, value: str = "", **more: Any) -> Json:
    """A table of the current labels; the value is hidden unless it has a name."""
    hidden = {"Time": True, "__name__": True, **({} if value else {"Value": True})}
    organize = {"excludeByName": hidden, "renameByName": {"Value": value} if value else {}, "indexByName": {}}
    return table(title, description, query, transformations=({"id": "organize", "options": organize},), **more)


def timeseries(title: str, description: str, *queries: Json, unit: str, style: str = "line", **more: Any) -> Json:
    custom = {
        "drawStyle": style,
        "lineWidth": 1,
        "fillOpacity": 10,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"mode": more.pop("stacking", "none"), "group": "A"},
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    more.setdefault("min", 0)
    return panel("timeseries", title, description, *queries, unit=unit, options=options, custom=custom, **more)


def timeline(title: str, description: str, *queries: Json, by: str = "", **more: Any) -> Json:
    """A state timeline; rows of a table are partitioned `by` a column."""
    parted = {"fields": [by], "keepFields": False, "naming": {"asLabels": True}}
    options = {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.85,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    if by:
        more["transformations"] = ({"id": "partitionByValues", "options": parted},)
        more["displayName"] = f"${{__field.labels.{by}}}"
    custom = {"lineWidth": 0, "fillOpacity": 80}
    unit = more.pop("unit", "none")
    return panel("state-timeline", title, description, *queries, unit=unit, options=options, custom=custom, **more)


def bars(
    title: str, description: str, *queries: Json, over: str, unit: str, stacked: bool = False, **more: Any
) -> Json:
    """Horizontal bars, one for each value of the column `over`."""
    options = {
        "orientation": "horizontal",
        "xField": over,
        "stacking": "normal" if stacked else "none",
        "showValue": "auto",
        "barWidth": 0.8,
        "groupWidth": 0.8,
        "xTickLabelRotation": 0,
        "xTickLabelMaxLength": 40,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "none"},
    }
    custom = {"lineWidth": 0, "fillOpacity": 85}
    return panel("barchart", title, description, *queries, unit=unit, options=options, custom=custom, **more)


def waterfall(title: str, description: str, query: Json, *, over: str) -> Json:
    """Bars that begin where the previous one ended: the column `before` is invisible."""
    unseen = {"legend": True, "tooltip": True, "viz": False}
    invisible = column("before", color={"mode": "fixed", "fixedColor": "transparent"}, custom_hideFrom=unseen)
    return bars(title, description, query, over=over, unit="s", stacked=True, columns=(invisible,))


def gauges(title: str, description: str, *queries: Json, unit: str, **more: Any) -> Json:
    """A bar for each series with its last value."""
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    options = {"displayMode": "basic", "orientation": "horizontal", "reduceOptions": last, "showUnfilled": True}
    more.setdefault("min", 0)
    return panel("bargauge", title, description, *queries, unit=unit, options=options, **more)


def pie(title: str, description: str, *queries: Json, colors: dict[str, str], rows: tuple[str, str] = ("", "")) -> Json:
    """A pie chart of series, or of `rows` with two columns, a name and a number."""
    shares = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    named = ({"fieldName": rows[0], "handlerKey": "field.name"}, {"fieldName": rows[1], "handlerKey": "field.value"})
    turned = ({"id": "rowsToFields", "options": {"mappings": list(named)}},) if rows[0] else ()
    options = {
        "pieType": "donut",
        "displayLabels": ["name", "value"],
        "reduceOptions": shares,
        "legend": {"displayMode": "table", "placement": "right", "showLegend": True, "values": ["value", "percent"]},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    each = tuple(column(name, color={"mode": "fixed", "fixedColor": color}) for name, color in colors.items())
    return panel(
        "piechart",
        title,
        description,
        *queries,
        unit="none",
        options=options,
        columns=each,
        transformations=turned,
    )


def text(title: str, description: str, markdown: str) -> Json:
    options = {"mode": "markdown", "content": markdown.strip()}
    return {"type": "text", "title": title, "description": description, "options": options}
