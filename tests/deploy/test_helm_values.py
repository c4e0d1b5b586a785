"""Good values give good configurations; bad values are errors that name their place."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from exporters.config import load as load_exporters
from responder.app.loading import parse
from responder.app.settings import Config
from tests.deploy.rendering import CHART, DEPLOY, KUBERNETES, NAMESPACE, Manifest, charted, files, helm, of

ROOT = DEPLOY.parent
HOW_TO = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text()
SHIPPED: Manifest = yaml.safe_load((CHART / "values.yaml").read_text())
POSTGRES: Manifest = {"replicas": 2, "config": {"state": "postgresql://responder:${PGPASSWORD}@db/responder"}}


def loaded(values: Manifest, tmp_path: Path) -> Config:
    """The configuration of the responder. Both configurations pass the checks of their programs."""
    maps = {m["metadata"]["name"]: m["data"] for m in of("ConfigMap", charted(values))}
    text = maps["responder"]["responder.yml"]
    environment = {name: f"{name} 0123456789" for name in re.findall(r"\$\{(\w+)\}", text)}
    (tmp_path / "exporters.yml").write_text(maps["exporters"]["exporters.yml"])
    assert load_exporters(tmp_path / "exporters.yml", {}).config.advertise is not None
    return parse(text, "responder.yml", environment)


@pytest.mark.parametrize("values", [{}, {"responder": POSTGRES}], ids=["defaults", "postgres"])
def test_the_configurations_are_good(values: Manifest, tmp_path: Path) -> None:
    config = loaded(values, tmp_path)
    assert f"responder.{NAMESPACE}.svc" in config.web.allowed_hosts


def test_the_values_of_the_documentation_are_good(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(rights:.*?)```", HOW_TO, flags=re.DOTALL)
    values = yaml.safe_load(text)
    config = loaded(values, tmp_path)
    resource = config.services[0].rollback.model_dump()["kubernetes"]
    assert [resource["namespace"]] == values["rights"]["namespaces"]


def test_a_configuration_keeps_its_values() -> None:
    config = {"a": 1048576, "b": 0.5, "c": "on", "d": "30s", "e": "{{ .x }}", "web": {"allowed_hosts": ["x.example"]}}
    (found,) = [m for m in of("ConfigMap", charted({"responder": {"config": config}})) if "responder.yml" in m["data"]]
    written = yaml.safe_load(found["data"]["responder.yml"])
    assert {key: written[key] for key in "abcde"} == {key: config[key] for key in "abcde"}
    assert isinstance(written["a"], int)
    assert "x.example" in written["web"]["allowed_hosts"]
    assert written["web"]["tokens"] == SHIPPED["responder"]["config"]["web"]["tokens"]


BAD: dict[str, tuple[Manifest, str]] = {
    "several processes on SQLite": (
        {"responder": {"replicas": 2}},
        "responder.replicas: 2, but responder.config.state",
    ),
    "an unknown value": ({"responder": {"replica": 2}}, "'/responder': additional properties 'replica' not allowed"),
    "no replica": ({"responder": {"replicas": 0}}, "'/responder/replicas': minimum"),
    "a number as tag": ({"image": {"tag": 1.5}}, "'/image/tag': got number, want string"),
    "a tag in the repository": ({"image": {"repository": "r.example/responder:1"}}, "'/image/repository'"),
    "a digest in the repository": ({"image": {"repository": "responder@sha256:aa"}}, "'/image/repository'"),
    "two secrets": ({"secrets": {"A": "b"}}, "existingSecret names a Secret"),
    "a missing secret": ({"existingSecret": "", "secrets": {"ALERTS_TOKEN": "b"}}, "secrets.SCRAPE_TOKEN: missing"),
    "an empty secret": ({"existingSecret": "", "secrets": {"A": ""}}, "'/secrets/A': minLength"),
    "the address": (
        {"responder": {"config": {"web": {"listen": "[::]:1"}}}},
        "responder.config.web.listen: the chart sets",
    ),
    "the address of the exporters": ({"exporters": {"config": {"advertise": "a:1"}}}, "exporters.config.advertise"),
    "a removed configuration": ({"responder": {"config": None}}, "'/responder': missing property 'config'"),
    "no journal": ({"responder": {"config": {"state": None}}}, "missing property 'state'"),
    "a namespace": ({"rights": {"namespaces": ["Shop"]}}, "'/rights/namespaces/0'"),
    "the same namespace twice": ({"rights": {"namespaces": ["a", "a"]}}, "'/rights/namespaces'"),
    "open to all by mistake": ({"networkPolicy": {"from": []}}, "'/networkPolicy/from': minItems"),
    "an interval without unit": ({"monitoring": {"interval": "15"}}, "'/monitoring/interval'"),
    "no address of runbooks": ({"monitoring": {"rules": {"runbookUrl": "wiki"}}}, "'/monitoring/rules/runbookUrl'"),
    "unknown rules": (
        {"monitoring": {"enabled": True, "rules": {"exclude": ["x.yml"]}}},
        "expected any of availability.yml",
    ),
}


@pytest.mark.parametrize(("values", "message"), BAD.values(), ids=BAD)
def test_bad_values_are_errors(values: Manifest, message: str) -> None:
    with pytest.raises(helm().HelmError, match=re.escape(message)):
        charted(values)


def test_the_schema_knows_exactly_the_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    free = ("config", "resources")  # their keys belong to others

    def keys(properties: Manifest) -> Manifest:
        return {
            name: keys(found["properties"]) if "properties" in found and name not in free else {}
            for name, found in properties.items()
        }

    def shipped(values: Manifest) -> Manifest:
        return {
            name: shipped(value) if isinstance(value, dict) and name not in free else {}
            for name, value in values.items()
        }

    known = keys(schema["properties"])
    assert known.pop("global") == {}
    assert known == shipped(SHIPPED)


def test_every_value_is_documented() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if re.match(r"(  )?\w+: \S", line):
            assert "#" in line or before.lstrip().startswith("#"), line


def test_all_versions_are_that_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (image,) = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["images"]
    assert [chart["version"], chart["appVersion"], image["newTag"]] == 3 * [version]


def test_the_documentation_applies_what_exists() -> None:
    paths = re.findall(r"(?:apply -[kf]|--install responder) (?:rollback-responder/)?(deploy\S+)", HOW_TO)
    assert len(paths) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_notes_and_documentation_create_the_secret() -> None:
    needed = {*re.findall(r"\$\{(\w+)\}", (CHART / "values.yaml").read_text())}
    for text in (files({})["NOTES.txt"], HOW_TO):
        assert {*re.findall(r"--from-literal=(\w+)=", text)} == needed


def test_lint_finds_nothing() -> None:
    report = helm().lint(str(CHART), strict=True)
    assert [found["error"] for found in report["messages"]] == ["icon is recommended"]
