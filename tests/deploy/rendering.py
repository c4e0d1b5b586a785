"""The objects of `deploy/kubernetes` and `deploy/helm`, rendered by kubectl and by Helm, and their schemas."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from foundation.configuration.yaml_document import YamlDocument
from tests.parts import need

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES, CHART = DEPLOY / "kubernetes", DEPLOY / "helm"
NAMESPACE = "rollback-responder"
Manifest = dict[str, Any]


def load_all(text: str) -> list[Manifest]:
    return [manifest for manifest in yaml.load_all(text, yaml.CSafeLoader) if manifest]


def kustomized(directory: Path = KUBERNETES) -> list[Manifest]:
    need("kubectl")
    done = subprocess.run(["kubectl", "kustomize", str(directory)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return load_all(done.stdout)


def with_postgres(directory: Path) -> Path:
    """A copy of deploy/kubernetes with the component for PostgreSQL."""
    copy = Path(shutil.copytree(KUBERNETES, directory / "kubernetes"))
    file = copy / "kustomization.yaml"
    file.write_text(re.sub(r"^# (components: \[postgres\]).*$", r"\1", file.read_text(), flags=re.MULTILINE))
    return copy


def read(name: str) -> list[Manifest]:
    return load_all((KUBERNETES / name).read_text())


def of(kind: str, manifests: list[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


# --- Helm ---


def helm() -> Any:
    """Helm as a library, from PyPI. It has wheels for Linux on x86-64, and others that the lock leaves out."""
    try:
        return import_module("helm_python")
    except ImportError:
        if os.environ.get("CI"):
            pytest.fail("CI lacks a part: pip install -r requirements.lock", pytrace=False)
        pytest.skip("pip install helm-python-sdk")


def files(values: Manifest, namespace: str = NAMESPACE) -> dict[str, str]:
    """The rendered text of each template. Raises HelmError, as `helm install` does."""
    with helm().Chart.load(CHART) as chart:
        chart.validate_schema(values)
        rendered = chart.render(values, name="responder", namespace=namespace)
    return {Path(name).name: text for name, text in rendered.items()}


def charted(values: Manifest | None = None, namespace: str = NAMESPACE) -> list[Manifest]:
    """The objects of the chart."""
    return [found for name, text in files(values or {}, namespace).items() for found in _objects(name, text)]


def _objects(name: str, text: str) -> Iterator[Manifest]:
    for part in re.split(r"^---$", text, flags=re.MULTILINE) if name.endswith(".yaml") else ():
        for manifest in load_all(part):
            if manifest["kind"] != "PrometheusRule":  # promtool has read these
                assert YamlDocument(part, name).duplicates == []
            yield manifest


# --- schemas ---


def validate(manifest: Manifest) -> None:
    """Raises for unknown fields, missing ones and wrong types.

    The models of the `kubernetes` package come from Kubernetes' OpenAPI, those of cloudcoil from the custom resource
    definitions of the Prometheus Operator.
    """
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind = manifest["kind"]
    if group == "monitoring.coreos.com":
        model = getattr(import_module(f"cloudcoil.models.prometheus_operator.{version}"), kind)
        read = model.model_validate(manifest).model_dump(by_alias=True, exclude_unset=True, mode="json")
        assert read == manifest, "has unknown fields"
    else:
        assert version == "v1", kind
        module = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()
        getattr(import_module(f"kubernetes.client.models.v1_{module}"), f"V1{kind}").model_validate(manifest)
