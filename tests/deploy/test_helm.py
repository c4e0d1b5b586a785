"""The chart renders by Helm itself, its objects are valid, and equal to those of kustomize."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver.real.account import SUSPEND
from tests.deploy.rendering import (
    DEPLOY,
    KUBERNETES,
    Manifest,
    charted,
    kustomized,
    of,
    read,
    validate,
    with_postgres,
)

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
