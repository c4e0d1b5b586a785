"""Every query of every dashboard has an answer: PromQL of a real Prometheus, SQL of a real PostgreSQL as its reader."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from grafana.generate import DASHBOARDS
from grafana.panels import Json
from tests import parts
from tests.grafana.world import GrafanaQueries, lived

NAMES = sorted(DASHBOARDS)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for all tests, because the history is created once."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def grafana(
    loop: asyncio.Runner, postgres_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GrafanaQueries]:
    parts.need("prometheus", "prometheus-alertmanager")
    dsn = loop.run(postgres_server.database("dashboards"))
    living = lived(tmp_path_factory.mktemp("dashboards"), dsn)
    yield loop.run(living.__aenter__())
    loop.run(living.__aexit__(None, None, None))


def panels_of(dashboard: Json) -> Iterator[Json]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def queries(name: str) -> Iterator[tuple[str, Json, Json]]:
    """Location, panel or annotation, and query, of panels, annotations and variables."""
    dashboard = DASHBOARDS[name]
    for panel in panels_of(dashboard):
        for target in panel.get("targets", []):
            yield panel["title"], panel, target
    for mark in dashboard["annotations"]["list"]:
        yield mark["name"], mark, mark.get("target", mark)


def words(panel: Json) -> set[str]:
    """Columns in the panel's overrides, links, transformations and options."""
    named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    named |= set(re.findall(r"__data\.fields\.(\w+)", json.dumps(panel)))
    named |= {panel["options"]["xField"]} if "xField" in panel["options"] else set()
    for transformation in panel["transformations"]:
        kind, options = transformation["id"], transformation["options"]
        named |= set(options.get("fields", [])) if kind == "partitionByValues" else set()
        if kind == "rowsToFields":
            named |= {mapping["fieldName"] for mapping in options["mappings"]}
    return named


@pytest.mark.parametrize("name", NAMES)
def test_every_promql_query_returns_data(loop: asyncio.Runner, grafana: GrafanaQueries, name: str) -> None:
    answered, silent = 0, []
    for title, _, query in queries(name):
        if "expr" in query:
            answered += 1
            if not loop.run(grafana.series(query["expr"], instant=query.get("instant", False))):
                silent.append(f"{title}: {grafana.interpolated(query['expr'])}")
    assert silent == []
    assert answered >= 5


@pytest.mark.parametrize("name", NAMES)
def test_every_sql_query_returns_the_configured_columns_to_the_reader(
    loop: asyncio.Runner, grafana: GrafanaQueries, name: str
) -> None:
    answered, silent = 0, []
    for title, panel, query in queries(name):
        if "rawSql" not in query:
            continue
        answered += 1
        rows = loop.run(grafana.rows(query["rawSql"]))
        if not rows:
            silent.append(f"{title}: {grafana.interpolated(query['rawSql'])}")
        elif "fieldConfig" in panel and panel["type"] != "piechart":
            missing = words(panel) - set(rows[0])
            silent += [f"{title} names {sorted(missing)}, there are {sorted(rows[0])}"] if missing else []
    assert silent == []
    assert answered >= 2


@pytest.mark.parametrize("name", NAMES)
def test_label_tables_have_the_configured_columns(loop: asyncio.Runner, grafana: GrafanaQueries, name: str) -> None:
    for title, panel, query in queries(name):
        if query.get("format") == "table" and "expr" in query and panel["type"] == "table":
            found = loop.run(grafana.series(query["expr"], instant=True))
            (organize,) = panel["transformations"]
            columns = {*found[0]["metric"], *organize["options"]["renameByName"].values()}
            assert words(panel) <= columns, title


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_has_values(loop: asyncio.Runner, grafana: GrafanaQueries, name: str) -> None:
    for variable in DASHBOARDS[name]["templating"]["list"]:
        if variable["type"] == "query" and isinstance(variable["query"], str):
            assert loop.run(grafana.rows(variable["query"])), variable["name"]
        elif variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found, variable["query"]
            series = loop.run(grafana.series(found[1], instant=True))
            assert all(sample["metric"][found[2]] for sample in series), variable["name"]


def test_the_first_increase_of_a_rare_counter_is_counted(loop: asyncio.Runner, grafana: GrafanaQueries) -> None:
    panel = next(
        shown for shown in panels_of(DASHBOARDS["rollbacks.json"]) if shown["title"] == "Outcomes, from series"
    )
    found = loop.run(grafana.series(panel["targets"][0]["expr"], instant=True))
    counted = {sample["metric"]["outcome"]: float(sample["value"][1]) for sample in found}
    assert counted == {"succeeded": 2, "reverted": 2, "cancelled": 2}


def test_the_current_state_is_the_last_one_of_the_history(loop: asyncio.Runner, grafana: GrafanaQueries) -> None:
    shown = {}
    for panel in panels_of(DASHBOARDS["rollbacks.json"]):
        if panel["type"] == "stat":
            (found,) = loop.run(grafana.series(panel["targets"][0]["expr"], instant=True))
            shown[panel["title"]] = float(found["value"][1])
    assert shown == {
        "Automation": 1,
        "Under way": 3,
        "Waiting for approval": 2,
        "Stuck": 2,
        "Circuit breaker": pytest.approx(0.01),
        "Journal": 1,
    }


def test_denied_decisions_are_counted_by_guard(loop: asyncio.Runner, grafana: GrafanaQueries) -> None:
    panel = next(p for p in panels_of(DASHBOARDS["rollbacks.json"]) if p["title"] == "Why no rollback started")
    rows = loop.run(grafana.rows(panel["targets"][0]["rawSql"]))
    assert {row["guard"]: (row["denied"], row["approval_required"]) for row in rows} == {
        "mode": (2, 3),
        "deployed_within": (2, 0),
        "in_progress": (2, 0),
        "circuit_breaker": (2, 0),
        "kill_switch": (2, 0),
    }
