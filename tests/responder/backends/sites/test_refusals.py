"""What a provider would refuse in the emergency is found before: values, sizes and missing permissions."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from responder.backends.sites.cdn_client import Cloudflare, Fastly
from responder.backends.sites.cloudflare import CloudflarePurge
from responder.backends.sites.cloudfront import CloudfrontInvalidation, CloudfrontKey, OriginPath
from responder.backends.sites.fastly import FastlyPurge, FastlyVersion
from responder.backends.sites.live_prefix import LivePrefix
from responder.backends.sites.pointer_object import PointerObject
from responder.backends.sites.releases import Releases
from responder.errors import StepFailed
from responder.transport.aws import Aws
from responder.transport.s3_store import S3Store
from tests.cdns import Amazon, FakeCloudflare, FakeFastly
from tests.cdns.amazon import ARN
from tests.cdns.others import ZONE

KEY = CloudfrontKey(kvs=ARN, key="active")
PATH = OriginPath(origin_path="/releases/{version}", distribution="E1")
OBJECT = PointerObject(object="s3://shop/current.json")
LIVE = LivePrefix(live="s3://shop/live", releases=Releases(s3="s3://shop/releases"))
CACHE = CloudfrontInvalidation(cloudfront="E1")


@pytest.mark.parametrize("path", ["index.html", "", "/a b", "/ä", "/*/index.html", "/a#b", "/a<b", f"/{'a' * 4000}"])
def test_paths_that_cloudfront_refuses_are_refused_when_they_are_configured(path: str) -> None:
    with pytest.raises(ValidationError, match="CloudFront can invalidate"):
        CloudfrontInvalidation(cloudfront="E1", paths=(path,))


@pytest.mark.parametrize("path", ["/", "/*", "/a/*", "/a%20b", "/a?x=1*", "/~me/@x,y;z=1"])
def test_paths_that_cloudfront_accepts_are_accepted(path: str) -> None:
    assert CloudfrontInvalidation(cloudfront="E1", paths=(path,)).paths == (path,)


def test_more_wildcards_than_cloudfront_accepts_are_refused() -> None:
    with pytest.raises(ValidationError, match="at most 15"):
        CloudfrontInvalidation(cloudfront="E1", paths=tuple(f"/{n}/*" for n in range(16)))


@pytest.mark.parametrize(
    "scope",
    [
        {"prefixes": ["https://shop.example/app"]},
        {"prefixes": ["shop.example/*"]},
        {"prefixes": ["/app"]},
        {"files": ["shop.example/app.js"]},
        {"files": ["/app.js"]},
        {"tags": ["a tag"]},
        {"tags": ["a,b"]},
        {"tags": ["ä"]},
    ],
)
def test_values_that_cloudflare_refuses_are_refused_when_they_are_configured(scope: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="expected"):
        CloudflarePurge(cloudflare=ZONE, **scope)


def test_keys_that_fastly_refuses_are_refused_when_they_are_configured() -> None:
    with pytest.raises(ValidationError):
        FastlyPurge(fastly="SVC1", keys=("a key",))


@pytest.mark.parametrize("resource", [KEY, PATH, OBJECT], ids=lambda resource: resource.resource)
@pytest.mark.parametrize("version", ["a/b", 'a"b', "..", "", "v" * 2000])
async def test_a_version_that_cannot_be_written_is_refused_at_planning(
    resource: Any, version: str, aws: Aws, amazon: Amazon
) -> None:
    if resource is OBJECT and len(version) > 1000:
        return  # an object may be as long as it likes
    with pytest.raises(StepFailed, match=r"not a valid version|expected at most"):
        await resource.preflight(aws, version)
    assert {request.method for request in amazon.requests} <= {"GET", "HEAD"}


async def test_objects_that_s3_does_not_copy_are_refused_at_planning(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    await LIVE.complete(aws, "1")
    with monkeypatch.context() as smaller:
        smaller.setattr("responder.backends.sites.live_prefix._LARGEST_COPY", 3)
        with pytest.raises(StepFailed, match="S3 copies at most"):
            await LIVE.complete(aws, "1")
    long = LIVE.model_copy(update={"live": f"s3://shop/{'x' * 1020}"})
    with pytest.raises(StepFailed, match="expected at most 1024"):
        await long.complete(aws, "1")


@pytest.mark.parametrize(
    ("resource", "action"),
    [(KEY, "PutKey"), (PATH, "UpdateDistribution"), (CACHE, "CreateInvalidation"), (OBJECT, "PUT"), (LIVE, "PUT")],
    ids=lambda of: getattr(of, "resource", of),
)
async def test_a_missing_permission_is_found_and_nothing_is_touched(
    resource: Any, action: str, aws: Aws, amazon: Amazon
) -> None:
    amazon.s3.put("shop/current.json", '{"version": "2"}')

    def state() -> Any:
        edge = amazon.distributions["E1"]
        return dict(amazon.keys), edge.config, edge.etag, list(edge.invalidations), dict(amazon.s3.objects)

    before = state()
    assert await resource.check_access(aws) == []
    assert (state(), amazon.s3.uploads, amazon.s3.deletes) == (before, 0, [])
    (amazon.s3.denied if action == "PUT" else amazon.denied).add(action)
    problems = await resource.check_access(aws)
    assert problems
    assert "may not be" in problems[0].found
    assert problems[0].fix.startswith("allow ")


async def test_a_store_of_snapshots_that_may_not_be_written_is_found_at_planning(aws: Aws, amazon: Amazon) -> None:
    store = S3Store(aws, "shop", "snapshots")
    assert await store.room() is None
    assert (amazon.s3.uploads, amazon.s3.deletes) == (0, [])
    amazon.s3.denied.add("PUT")
    with pytest.raises(StepFailed, match="AccessDenied"):
        await store.room()


async def test_a_copy_ends_without_the_permission_to_delete_its_note(aws: Aws, amazon: Amazon) -> None:
    amazon.s3.denied.add("DELETE")
    await LIVE.write(aws, "1", expected="2")
    assert await LIVE.read(aws) == "1"
    assert await LIVE.converged(aws, "1")
    await LIVE.write(aws, "2", expected="1")
    assert await LIVE.converged(aws, "2")


async def test_a_token_that_may_not_purge_or_activate_is_found(
    cloudflare: tuple[FakeCloudflare, Cloudflare], fastly: tuple[FakeFastly, Fastly]
) -> None:
    fake, client = cloudflare
    purge = CloudflarePurge(cloudflare=ZONE)
    assert await purge.check_access(client) == []
    fake.may_purge = False
    (problem,) = await purge.check_access(client)
    assert "may not be purged" in problem.found
    assert fake.purges == []

    service, other = fastly
    version = FastlyVersion(fastly="SVC1")
    assert await version.check_access(other) == []
    service.scope = "purge_all global:read"
    (problem,) = await version.check_access(other)
    assert "expected global" in problem.found
    with pytest.raises(StepFailed, match="cannot activate versions"):
        await version.preflight(other, 2)
