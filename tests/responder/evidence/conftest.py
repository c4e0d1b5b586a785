"""A case, and both kinds of stores for its evidence: a directory, and a bucket of an S3 server."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from pydantic import TypeAdapter

from responder.backends.connections import Connections
from responder.backends.prometheus.client import Prometheus, PrometheusSettings
from responder.backends.registries import AnyLogSource
from responder.evidence.collect import Case, collect
from responder.evidence.manifest import EvidenceManifest, where
from responder.evidence.settings import EvidenceSettings
from responder.evidence.store import EvidenceStore, store_of
from responder.transport.aws import Aws, AwsSettings
from tests.responder.examples import NOW, ago, alert
from tests.responder.outside import FakePrometheus

SOURCES: TypeAdapter[tuple[AnyLogSource, ...]] = TypeAdapter(tuple[AnyLogSource, ...])
_BUCKETS = itertools.count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def aws_at(url: str) -> AwsSettings:
    return AwsSettings.model_validate(
        {"endpoint_url": url, "access_key_id": "test", "secret_access_key": "test", "timeout": 5.0}
    )


@pytest.fixture
def client_settings(prometheus: FakePrometheus, s3_server: str) -> dict[type, Any]:
    """The settings of each client that evidence needs."""
    return {
        Prometheus: PrometheusSettings.model_validate({"url": prometheus.url, "timeout": 5.0}),
        Aws: aws_at(s3_server),
    }


@pytest.fixture
async def around(client_settings: dict[type, Any]) -> AsyncIterator[Connections]:
    made = Connections(client_settings.get)
    yield made
    await made.close()


@pytest.fixture(params=["directory", "s3"])
async def settings(request: pytest.FixtureRequest, tmp_path: Path, around: Connections) -> EvidenceSettings:
    if request.param == "directory":
        return EvidenceSettings(base_directory=tmp_path / "evidence")
    bucket = f"evidence-{next(_BUCKETS)}"
    await (await around.to(Aws)).write("s3", "create_bucket", Bucket=bucket)
    return EvidenceSettings(s3=f"s3://{bucket}/kept/here")


@pytest.fixture
async def store(settings: EvidenceSettings, around: Connections) -> EvidenceStore:
    return await store_of(settings, around)


@pytest.fixture
def directory(tmp_path: Path) -> EvidenceSettings:
    return EvidenceSettings(base_directory=tmp_path / "evidence")


def sources(*entries: dict[str, Any]) -> tuple[AnyLogSource, ...]:
    """As in YAML."""
    return SOURCES.validate_json(json.dumps(entries))


def a_case(*entries: dict[str, Any], **other: Any) -> Case:
    facts = {
        "id": "20261123-220000-aaaa0000",
        "execution": "20261123-220000-aaaa0000",
        "service": "backend",
        "environment": "production",
        "policy": "backend-down",
        "deployment_id": "deploy-21",
        "reason": "BackendDown on backend in production",
        "onset": ago(60),
        "alerts": (alert(),),
        "sources": sources(*entries),
        **other,
    }
    return Case(**facts)


async def kept(case: Case, settings: EvidenceSettings, around: Connections, **more: Any) -> EvidenceManifest:
    store = await store_of(settings, around)
    return await collect(case, settings=settings, store=store, connections=around, **more)


async def unpacked(manifest: EvidenceManifest, settings: EvidenceSettings, around: Connections) -> dict[str, bytes]:
    """The contents of the files in the store, by name."""
    store, found = await store_of(settings, around), {}
    for file in manifest.files:
        data = await store.get(where(manifest.deployment_id, manifest.id), file.name)
        assert data is not None, file.name
        found[file.name.removesuffix(".gz")] = gzip.decompress(data)
    return found


__all__ = ["NOW", "a_case", "kept", "sources", "unpacked"]
