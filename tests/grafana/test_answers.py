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
    """One loop for all, because the history happens once."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def world(
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
    """Where it stands, the panel or annotation, and the query; of panels, annotations and variables alike."""
    told = DASHBOARDS[name]
    for panel in panels_of(told):
        for target in panel.get("targets", []):
            yield panel["title"], panel, target
    for mark in told["annotations"]["list"]:
        yield mark["name"], mark, mark.get("target", mark)


def words(panel: Json) -> set[str]:
    """Columns that the panel names: of overrides, links, transformations and options."""
    named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    named |= set(re.findall(r"__data\.fields\.(\w+)", json.dumps(panel)))
    named |= {panel["options"]["xField"]} if "xField" in panel["options"] else set()
    for one in panel["transformations"]:
        named |= set(one["options"].get("fields", [])) if one["id"] == "partitionByValues" else set()
        if one["id"] == "rowsToFields":
            named |= {mapping["fieldName"] for mapping in one["options"]["mappings"]}
    return named


@pytest.mark.parametrize("name", NAMES)
def test_every_promql_has_an_answer(loop: asyncio.Runner, world: GrafanaQueries, name: str) -> None:
    asked, silent = 0, []
    for place, _, query in queries(name):
        if "expr" in query:
            asked += 1
            if not loop.run(world.series(query["expr"], instant=query.get("instant", False))):
                silent.append(f"{place}: {world.interpolated(query['expr'])}")
    assert silent == []
    assert asked >= 5


@pytest.mark.parametrize("name", NAMES)
def test_every_sql_has_an_answer_for_the_reader_with_the_columns_that_are_named(
    loop: asyncio.Runner, world: GrafanaQueries, name: str
) -> None:
    asked, silent = 0, []
    for place, panel, query in queries(name):
        if "rawSql" not in query:
            continue
        asked += 1
        rows = loop.run(world.rows(query["rawSql"]))
        if not rows:
            silent.append(f"{place}: {world.interpolated(query['rawSql'])}")
        elif "fieldConfig" in panel and panel["type"] != "piechart":
            missing = words(panel) - set(rows[0])
            silent += [f"{place} names {sorted(missing)}, there are {sorted(rows[0])}"] if missing else []
    assert silent == []
    assert asked >= 2


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_labels_have_the_columns_that_are_named(
    loop: asyncio.Runner, world: GrafanaQueries, name: str
) -> None:
    for place, panel, query in queries(name):
        if query.get("format") == "table" and "expr" in query and panel["type"] == "table":
            found = loop.run(world.series(query["expr"], instant=True))
            (organize,) = panel["transformations"]
            there = {*found[0]["metric"], *organize["options"]["renameByName"].values()}
            assert words(panel) <= there, place


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_can_be_filled(loop: asyncio.Runner, world: GrafanaQueries, name: str) -> None:
    for variable in DASHBOARDS[name]["templating"]["list"]:
        if variable["type"] == "query" and isinstance(variable["query"], str):
            assert loop.run(world.rows(variable["query"])), variable["name"]
        elif variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found, variable["query"]
            series = loop.run(world.series(found[1], instant=True))
            assert all(one["metric"][found[2]] for one in series), variable["name"]


def test_the_first_time_of_something_rare_is_counted(loop: asyncio.Runner, world: GrafanaQueries) -> None:
    panel = next(p for p in panels_of(DASHBOARDS["rollbacks.json"]) if p["title"] == "Outcomes, from series")
    found = loop.run(world.series(panel["targets"][0]["expr"], instant=True))
    counted = {one["metric"]["outcome"]: float(one["value"][1]) for one in found}
    assert counted == {"succeeded": 2, "compensated": 2, "cancelled": 2}


def test_what_is_going_on_now_is_what_the_history_came_to(loop: asyncio.Runner, world: GrafanaQueries) -> None:
    shown = {}
    for panel in panels_of(DASHBOARDS["rollbacks.json"]):
        if panel["type"] == "stat":
            (found,) = loop.run(world.series(panel["targets"][0]["expr"], instant=True))
            shown[panel["title"]] = float(found["value"][1])
    assert shown == {
        "Automation": 1,
        "Under way": 3,
        "Waiting for approval": 2,
        "Stuck": 2,
        "Brake": pytest.approx(0.01),
        "Journal": 1,
    }


def test_every_reason_not_to_act_is_shown_by_its_guard(loop: asyncio.Runner, world: GrafanaQueries) -> None:
    panel = next(p for p in panels_of(DASHBOARDS["rollbacks.json"]) if p["title"] == "Why did it not act")
    rows = loop.run(world.rows(panel["targets"][0]["rawSql"]))
    assert {row["guard"]: (row["refuse"], row["needs_approval"]) for row in rows} == {
        "mode": (2, 3),
        "deployed_within": (2, 0),
        "single_flight": (2, 0),
        "brake": (2, 0),
        "stopped": (2, 0),
    }
