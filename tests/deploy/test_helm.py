"""The chart renders by Helm itself, its objects are valid, and equal to those of kustomize."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporters.config import load as load_exporters
from responder.app.loading import parse
from responder.app.settings import Config
from tests.apiserver.real.account import SUSPEND
from tests.deploy.rendering import (
    CHART,
    DEPLOY,
    KUBERNETES,
    NAMESPACE,
    Manifest,
    charted,
    files,
    helm,
    kustomized,
    of,
    read,
    validate,
    with_postgres,
)
from tests.parts import need

ROOT = DEPLOY.parent
RULES = ROOT / "alert_rules"
HOW_TO = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text()
SHIPPED: Manifest = yaml.safe_load((CHART / "values.yaml").read_text())
POSTGRES: Manifest = {"replicas": 2, "config": {"state": "postgresql://responder:${PGPASSWORD}@db/responder"}}
POD: Manifest = {
    "env": [{"name": "AWS_REGION", "value": "eu-central-1"}],
    "volumes": [{"name": "keys", "secret": {"secretName": "keys"}}],
    "volumeMounts": [{"name": "keys", "mountPath": "/keys", "readOnly": True}],
    "podAnnotations": {"team": "sre"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "infra", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "priorityClassName": "system-cluster-critical",
}
MONITORING: Manifest = {
    "enabled": True,
    "labels": {"release": "kps"},
    "alertmanager": {"enabled": True, "labels": {"a": "b"}},
}
CASES: dict[str, Manifest] = {
    "defaults": {},
    "postgres": {"responder": POSTGRES},
    "everything": {
        "image": {"repository": "registry.example/responder", "tag": f"sha256:{64 * 'a'}"},
        "imagePullSecrets": [{"name": "registry"}],
        "existingSecret": "",
        "secrets": {f"{name}_TOKEN": "a: b\nc" for name in ("ALERTS", "SCRAPE", "DEPLOY", "OPERATOR")},
        "responder": {
            **POSTGRES,
            **POD,
            "env": [{"name": "PGPASSWORD", "value": "x"}],
            "serviceAccountAnnotations": {"a": "b"},
            "persistence": {"existingClaim": "x"},
        },
        "exporters": POD,
        "rights": {"namespaces": ["shop", "web"], "flux": True, "argocdNamespace": "argocd"},
        "networkPolicy": {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "egress": [{"ports": [{"port": 443}]}]},
        "monitoring": MONITORING,
    },
    "least": {
        "exporters": {"enabled": False},
        "rights": {"nodes": False},
        "networkPolicy": {"enabled": False},
        "monitoring": {"enabled": True, "rules": {"enabled": False}},
    },
    "a dependency of another chart": {"global": {"registry": "x"}},
}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_every_object_is_valid(values: Manifest) -> None:
    manifests = charted(values, "the-namespace")
    for manifest in manifests:
        validate(manifest)
        assert manifest["metadata"].get("namespace") or manifest["kind"].startswith("Cluster")
    keys = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests]
    assert len({*keys}) == len(keys)


@pytest.mark.parametrize("path", ["kubernetes", "kubernetes/rights", "kubernetes/monitoring"])
def test_every_object_of_kustomize_is_valid(path: str) -> None:
    for manifest in kustomized(DEPLOY / path):
        validate(manifest)


BROKEN = {
    "an unknown field": ("Deployment", ("spec", "template", "spec", "containers", 0, "livenesProbe"), {}),
    "a wrong type": ("Deployment", ("spec", "replicas"), "two"),
    "an unknown field of the operator": ("ServiceMonitor", ("spec", "endpoints", 0, "relabeling"), []),
    "a wrong value of the operator": ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), "soon"),
}


@pytest.mark.parametrize(("kind", "path", "value"), BROKEN.values(), ids=BROKEN)
def test_the_schemas_are_strict(kind: str, path: tuple[Any, ...], value: Any) -> None:
    manifest = of(kind, charted({"monitoring": {"enabled": True}}))[0]
    inner: Any = manifest
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises((ValueError, AssertionError)):
        validate(manifest)


# --- the same as kustomize ---


def comparable(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    """The objects by kind and name, without what only Helm or only kustomize adds. Configurations are data."""
    found = {}
    for manifest in copy.deepcopy(manifests):
        name = re.sub(r"-[a-z0-9]{10}$", "", manifest["metadata"]["name"])  # kustomize: the hash of the content
        if manifest["kind"] == "ConfigMap":
            manifest["data"] = {file: yaml.safe_load(text) for file, text in manifest["data"].items()}
        if manifest["kind"] == "Deployment":
            template = manifest["spec"]["template"]
            template["metadata"].pop("annotations", None)
            template["metadata"]["labels"].pop("app.kubernetes.io/instance", None)
            template["spec"]["containers"][0].pop("imagePullPolicy", None)
            for volume in template["spec"]["volumes"]:
                if "configMap" in volume:
                    volume["configMap"]["name"] = re.sub("-[a-z0-9]{10}$", "", volume["configMap"]["name"])
        if manifest["kind"] != "Namespace":
            found[manifest["kind"], name] = {**manifest, "metadata": manifest["metadata"].get("namespace")}
    return found


def test_defaults_equal_kustomize() -> None:
    assert comparable(charted()) == comparable(kustomized())


def test_replicas_on_postgres_equal_kustomize(tmp_path: Path) -> None:
    ours, theirs = comparable(charted(CASES["postgres"])), comparable(kustomized(with_postgres(tmp_path)))
    theirs["ConfigMap", "responder"]["data"]["responder.yml"]["state"] = POSTGRES["config"]["state"]
    assert ours == theirs


def test_monitoring_equals_kustomize() -> None:
    values = {"monitoring": {"enabled": True, "alertmanager": {"enabled": True}}}
    ours = {key: found for key, found in comparable(charted(values)).items() if key not in comparable(charted())}
    theirs = [*kustomized(KUBERNETES / "monitoring"), *read("monitoring/alertmanagerconfig.yaml")]
    assert ours == comparable(theirs)
    assert sum(kind == "PrometheusRule" for kind, _ in ours) == 7


def test_rights_equal_kustomize() -> None:
    values = {"rights": {"namespaces": ["shop"]}}
    ours = {key: found for key, found in comparable(charted(values)).items() if key not in comparable(charted())}
    theirs = comparable(kustomized(KUBERNETES / "rights"))
    assert {found.pop("metadata") for found in ours.values()} == {"shop"}
    assert ours == {key: {k: v for k, v in found.items() if k != "metadata"} for key, found in theirs.items()}


def test_rights_to_suspend_gitops() -> None:
    values = {"rights": {"namespaces": ["shop"], "flux": True, "argocdNamespace": "argocd"}}
    roles = {role["metadata"]["namespace"]: role["rules"] for role in of("Role", charted(values))}
    shipped = of("Role", read("rights/role.yaml"))[0]["rules"]
    applications, releases = SUSPEND
    assert roles == {"shop": [*shipped, releases], "argocd": [applications]}


def test_the_operator_reads_the_labels() -> None:
    for manifest in charted({"monitoring": MONITORING}):
        labels = manifest["metadata"].get("labels", {})
        selected = {"a": "b"} if manifest["kind"] == "AlertmanagerConfig" else {"release": "kps"}
        assert (selected.items() <= labels.items()) == ("monitoring.coreos.com" in manifest["apiVersion"])


# --- the Prometheus Operator ---


def test_jobs_and_labels_are_those_of_the_rules() -> None:
    manifests = charted({"monitoring": {"enabled": True}})
    example = yaml.safe_load((RULES / "prometheus.example.yml").read_text())
    jobs = {}
    for manifest in (*of("ServiceMonitor", manifests), *of("ScrapeConfig", manifests)):
        rules = manifest["spec"].get("relabelings") or manifest["spec"]["endpoints"][0]["relabelings"]
        if manifest["kind"] == "ServiceMonitor":  # the operator sets `service`, which the series have themselves
            assert {"action": "labeldrop", "regex": "service"} in rules
        set_to = {rule["targetLabel"]: rule["replacement"] for rule in rules if "targetLabel" in rule}
        jobs[set_to.pop("job")] = set_to
    assert {*jobs} == {job["job_name"] for job in example["scrape_configs"]} - {"alertmanager", "prometheus"}
    assert jobs == {"responder": {}, "exporters": {"environment": "production"}, "probes": {}}


ROUTED = {
    "alertname=RollbackAutomationArmed": {"responder"},
    "alertname=ServiceFailing rollback=true": {"responder"},
    "alertname=RollbackRequested rollback=true": {"responder"},
    "alertname=SeveralServicesFailing preserve_logs=true": {"responder"},
    "alertname=CheckFailing": {"humans"},
}


@pytest.mark.parametrize(("labels", "receivers"), ROUTED.items(), ids=ROUTED)
def test_alerts_reach_the_responder_and_all_others_pass_by(labels: str, receivers: set[str], tmp_path: Path) -> None:
    need("amtool")
    routes, known = [], [{"name": "humans"}]
    for manifest in of("AlertmanagerConfig", charted({"monitoring": {"alertmanager": {"enabled": True}}})):
        route, name = manifest["spec"]["route"], manifest["metadata"]["name"]
        matchers = [f'{matcher["name"]}{matcher["matchType"]}"{matcher["value"]}"' for matcher in route["matchers"]]
        routes.append({"receiver": name, "matchers": matchers, "continue": True})  # as the operator writes it
        known.append({"name": name})
    config = tmp_path / "alertmanager.yml"
    config.write_text(yaml.safe_dump({"route": {"receiver": "humans", "routes": routes}, "receivers": known}))
    argv = ["amtool", "config", "routes", "test", f"--config.file={config}", *labels.split()]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    reached = done.stdout.strip().split(",")
    assert {re.sub(r"-\d$", "", name) for name in reached} == receivers
    assert len(reached) == 1, "once"


# --- values ---


def loaded(values: Manifest, tmp_path: Path) -> Config:
    """The configuration of the responder. Both configurations pass the checks of their programs."""
    maps = {m["metadata"]["name"]: m["data"] for m in of("ConfigMap", charted(values))}
    text = maps["responder"]["responder.yml"]
    environment = {name: f"{name} 0123456789" for name in re.findall(r"\$\{(\w+)\}", text)}
    (tmp_path / "exporters.yml").write_text(maps["exporters"]["exporters.yml"])
    assert load_exporters(tmp_path / "exporters.yml", {}).config.advertise is not None
    return parse(text, "responder.yml", environment)


@pytest.mark.parametrize("name", ["defaults", "postgres"])
def test_the_configurations_are_good(name: str, tmp_path: Path) -> None:
    config = loaded(CASES[name], tmp_path)
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


def test_the_chart_has_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_notes_and_documentation_create_the_secret() -> None:
    needed = {*re.findall(r"\$\{(\w+)\}", (CHART / "values.yaml").read_text())}
    for text in (files({})["NOTES.txt"], HOW_TO):
        assert {*re.findall(r"--from-literal=(\w+)=", text)} == needed


def test_lint_finds_nothing() -> None:
    report = helm().lint(str(CHART), strict=True)
    assert [found["error"] for found in report["messages"]] == ["icon is recommended"]
