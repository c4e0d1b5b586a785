"""The committed dashboards are current, and use only common features of Grafana 11, 12 and 13."""

from __future__ import annotations

import json
import re
import shlex
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana import generate
from grafana.panels import Json
from responder.assets import RUNBOOK_URL
from tests.command_lines import usage_error

ROOT = Path(__file__).parents[2]
DASHBOARDS = {path.name: json.loads(path.read_text()) for path in generate.DIRECTORY.glob("*.json")}
PROVISIONED = {
    path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "grafana" / "provisioning").rglob("*.yml")
}
SOURCES = {source["uid"]: source for file in ("prometheus", "postgres") for source in PROVISIONED[file]["datasources"]}

# Core panels of all three versions, in React: 12 removed Angular, 12 and 13 added panels.
PANELS = {"row", "text", "stat", "table", "timeseries", "state-timeline", "barchart", "bargauge", "piechart"}
TRANSFORMATIONS = {"organize", "joinByField", "partitionByValues", "rowsToFields", "sortBy"}
UNITS = {"none", "short", "string", "s", "percentunit", "bytes", "Bps", "pps", "reqps", "cps", "dateTimeAsIso"}
MACROS = {"$__timeFilter", "$__timeFrom", "$__timeTo", "$__rate_interval", "$__range"}


def panels_of(dashboard: Json) -> Iterator[Json]:
    """Panels, including those in collapsed rows."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def asking(dashboard: Json) -> list[Json]:
    return [panel for panel in panels_of(dashboard) if panel["type"] not in ("row", "text")]


@pytest.fixture(params=sorted(DASHBOARDS))
def dashboard(request: pytest.FixtureRequest) -> Json:
    shown: Json = DASHBOARDS[request.param]
    return shown


def test_generated_dashboards_are_current() -> None:
    assert generate.stale() == [], "python -m grafana.generate"


def test_uids_and_titles_are_unique_and_valid() -> None:
    for key in ("uid", "title"):
        assert max(Counter(board[key] for board in DASHBOARDS.values()).values()) == 1
    assert all(re.fullmatch(r"[a-z-]{1,40}", board["uid"]) for board in DASHBOARDS.values())


def test_every_panel_has_a_unique_id_a_title_and_a_description(dashboard: Json) -> None:
    every = list(panels_of(dashboard))
    assert sorted(panel["id"] for panel in every) == list(range(1, len(every) + 1))
    shown = [panel for panel in every if panel["type"] != "row"]
    assert max(Counter(panel["title"] for panel in shown).values()) == 1
    for panel in shown:
        assert panel["title"] and re.fullmatch(r"[A-Z0-9].{8,}[.]", panel["description"]), panel["title"]


def test_every_panel_has_a_unit(dashboard: Json) -> None:
    for panel in asking(dashboard):
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        for override in panel["fieldConfig"]["overrides"]:
            units = [setting["value"] for setting in override["properties"] if setting["id"] == "unit"]
            assert set(units) <= UNITS, panel["title"]


def test_panels_use_data_source_variables(dashboard: Json) -> None:
    variables = {
        variable["name"]: variable["query"]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "datasource"
    }
    found = list(_values(dashboard, "datasource"))
    assert found
    for source in found:
        name = source["uid"].removeprefix("${").removesuffix("}")
        assert source["uid"] == f"${{{name}}}" and variables[name] == source["type"]
    for panel in asking(dashboard):
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"]), panel["title"]


def test_provisioned_data_sources_are_the_default(dashboard: Json) -> None:
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "datasource":
            source = SOURCES[variable["current"]["value"]]
            assert (source["type"], source["name"]) == (variable["query"], variable["current"]["text"])


def _values(node: Any, key: str) -> Iterator[Any]:
    if isinstance(node, dict):
        yield from ([node[key]] if key in node else [])
        for value in node.values():
            yield from _values(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value, key)


def test_panels_fill_the_width_without_overlap(dashboard: Json) -> None:
    shown = list(dashboard["panels"])
    for row in (panel for panel in shown if panel["type"] == "row"):
        assert row["gridPos"]["w"] == 24 and (row["collapsed"] or not row["panels"])
    for group in (shown, *(panel["panels"] for panel in shown if panel.get("panels"))):
        taken: Counter[tuple[int, int]] = Counter()
        for panel in group:
            at = panel["gridPos"]
            taken.update((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"]))
        assert set(taken.values()) == {1}, "two panels on one place"
        assert {x for x, _ in taken} == set(range(24))
        assert len(taken) == 24 * len({y for _, y in taken}), "a hole"


def test_dashboards_use_only_features_of_grafana_11_to_13(dashboard: Json) -> None:
    assert dashboard["schemaVersion"] == 39, "of Grafana 11.0"
    assert {panel["type"] for panel in panels_of(dashboard)} <= PANELS
    assert {
        transformation["id"] for panel in asking(dashboard) for transformation in panel["transformations"]
    } <= TRANSFORMATIONS
    assert {variable["type"] for variable in dashboard["templating"]["list"]} <= {"datasource", "query"}
    queries = [*_values(dashboard, "rawSql"), *_values(dashboard, "expr")]
    assert {name for query in queries for name in re.findall(r"\$__\w+", query)} <= MACROS
    assert not any(panel.get("alert") or "thresholds" in panel for panel in panels_of(dashboard))


def test_the_sdk_accepts_every_dashboard(dashboard: Json) -> None:
    """Its models drop unknown keys: a key that is missing afterwards is a typo."""
    with warnings.catch_warnings():  # it prefers the format of Grafana 13, which 11 does not read
        warnings.filterwarnings("ignore", "Prefer using dashboardv2", DeprecationWarning)
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
        from grafana_foundation_sdk.cog.plugins import register_default_plugins
        from grafana_foundation_sdk.models.dashboard import Dashboard

        register_default_plugins()
        read = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    assert list(_lost(dashboard, read, "")) == []
    for query in (target for panel in asking(dashboard) for target in panel["targets"] if "rawSql" in target):
        # It has no model of PostgreSQL queries.
        fields = {key: value for key, value in query.items() if key not in ("refId", "datasource", "rawSql")}
        assert fields == {"rawQuery": True, "editorMode": "code", "format": "table"}


def _lost(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from _lost(value, theirs[key], f"{path}.{key}")
            elif value not in ([], {}, None):
                yield f"{path}.{key}"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (our_item, their_item) in enumerate(zip(ours, theirs, strict=True)):
            yield from _lost(our_item, their_item, f"{path}[{number}]")
    elif ours != theirs:
        yield f"{path}: {ours!r} became {theirs!r}"


def test_links_point_to_existing_dashboards_and_runbooks(dashboard: Json) -> None:
    uids = {board["uid"] for board in DASHBOARDS.values()}
    urls = list(_values(dashboard, "url"))
    for url in urls:
        if url.startswith("/d/"):
            assert re.match(r"/d/([\w-]+)\?", url)[1] in uids  # type: ignore[index]
        elif url.startswith("http:"):
            assert url == f"{RUNBOOK_URL}/${{__value.raw}}"
    assert any(url.startswith("/alerting/silences") for url in urls)


def test_commands_in_texts_exist(dashboard: Json) -> None:
    texts = "\n".join([*_values(dashboard, "description"), *_values(dashboard, "content")])
    for command in re.findall(r"`responder ([^`]+)`", texts):
        assert usage_error("responder", shlex.split(command)) == ""


def test_every_used_variable_is_defined(dashboard: Json) -> None:
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w+)", json.dumps(dashboard)))
    assert used <= defined
    assert defined - used <= {"alertmanager_datasource"}


def test_dashboards_explain_missing_postgresql() -> None:
    for name in ("rollbacks.json", "execution.json", "services.json"):
        (row,) = (panel for panel in DASHBOARDS[name]["panels"] if panel.get("panels"))
        (notice,) = (panel for panel in row["panels"] if panel["type"] == "text")
        assert "`state: sqlite:`" in notice["options"]["content"]
        others = [panel for panel in row["panels"] if panel is not notice]
        assert others and all(panel["datasource"]["type"] == "prometheus" for panel in others)


def test_data_sources_have_fixed_uids_and_no_secrets() -> None:
    assert set(SOURCES) == {"prometheus", "alertmanager", "responder-postgres"}
    for file in ("prometheus", "postgres"):
        assert (PROVISIONED[file]["apiVersion"], PROVISIONED[file]["prune"]) == (1, True)
    postgres = SOURCES["responder-postgres"]
    assert postgres["user"] == "grafana_reader"
    assert postgres["secureJsonData"] == {"password": "$__file{/run/secrets/grafana_reader}"}
    assert "database" not in postgres, "Grafana 12.2 and newer read it in jsonData only"
    assert SOURCES["alertmanager"]["jsonData"]["implementation"] == "prometheus"


def test_provisioned_dashboards_are_read_only() -> None:
    (provider,) = PROVISIONED["responder"]["providers"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
    assert not any(board["editable"] for board in DASHBOARDS.values())


HOW_TO = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "how-to" / "grafana.md").read_text(), re.M | re.S)[0]


@pytest.mark.parametrize("compose", [(ROOT / "docker-compose.yml").read_text(), HOW_TO], ids=["stack", "how-to"])
def test_the_compose_file_sets_the_variables_of_the_provisioning(compose: str) -> None:
    grafana = yaml.safe_load(compose)["services"]["grafana"]
    assert all((ROOT / volume.split(":")[0]).exists() for volume in grafana["volumes"] if volume.startswith("./"))
    provisioning = "\n".join(path.read_text() for path in (ROOT / "grafana" / "provisioning").rglob("*.yml"))
    assert set(re.findall(r"\$\{(\w+)\}", provisioning)) <= set(grafana["environment"])
    assert {Path(name).name for name in re.findall(r"\$__file\{(\S+)\}", provisioning)} <= set(grafana["secrets"])
    mounted = {volume.split(":")[1] for volume in grafana["volumes"]}
    (provider,) = PROVISIONED["responder"]["providers"]
    assert {provider["options"]["path"], "/etc/grafana/provisioning"} <= mounted
