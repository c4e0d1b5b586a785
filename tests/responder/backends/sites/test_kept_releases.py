"""Releases that were kept, but not whole, and providers that are halfway through a change: noted at planning."""

from __future__ import annotations

import time
from typing import Any

import pytest

from responder.backends.sites.cdn_client import Fastly
from responder.backends.sites.cloudfront import CloudfrontKey, OriginPath
from responder.backends.sites.fastly import FastlyPurge, FastlyVersion
from responder.errors import StepFailed, Unavailable
from responder.transport import json_api
from responder.transport.aws import Aws
from tests.cdns import Amazon, FakeFastly
from tests.cdns.amazon import ARN
from tests.responder.backends.sites.test_strategy import PATH, RELEASES, frontend
from tests.responder.harness import Rollback

COPY = {"pointer": None, "releases": None, "copy": {"live": "s3://shop/live", "releases": RELEASES}}


async def notes_of(aws: Aws, **more: Any) -> tuple[str, ...]:
    return (await Rollback(frontend(**more), {Aws: aws}).plan()).notes


# --- S3
@pytest.mark.parametrize("web", [{}, COPY], ids=["pointer", "copy"])
async def test_a_release_that_was_archived_is_refused(web: dict[str, Any], aws: Aws, amazon: Amazon) -> None:
    """A lifecycle rule moves old releases away. Only pages are read while planning, so the listing has to tell."""
    script = next(path for path in amazon.s3.objects if path.startswith("shop/releases/1/assets/app."))
    amazon.s3.objects[script].storage = "DEEP_ARCHIVE"
    with pytest.raises(StepFailed, match=r"releases/1 is archived: restore assets/app\.\w+\.js is in a storage class"):
        await notes_of(aws, web=web)
    amazon.s3.objects[script].restored = True
    assert not any("archived" in note for note in await notes_of(aws, web=web))


@pytest.mark.parametrize("web", [{}, COPY], ids=["pointer", "copy"])
@pytest.mark.parametrize(
    ("path", "headers", "note"),
    [
        ("index.html", {"content-type": "binary/octet-stream"}, "ContentType binary/octet-stream, not text/html"),
        ("index.html", {"cache-control": "max-age=31536000"}, "CacheControl max-age=31536000, not no-cache"),
        ("assets/app.", {"content-encoding": "gzip"}, "ContentEncoding gzip, not none"),
        ("assets/app.", {"content-type": None}, "ContentType binary/octet-stream, not text/javascript"),
        ("assets/app.", {"cache-control": "no-cache"}, ""),  # the names differ, so other rules may apply to them
    ],
)
async def test_a_release_that_was_uploaded_with_other_metadata_is_noted(
    web: dict[str, Any], path: str, headers: dict[str, str | None], note: str, aws: Aws, amazon: Amazon
) -> None:
    name = next(key for key in amazon.s3.objects if key.startswith(f"shop/releases/1/{path}"))
    stored = amazon.s3.objects[name]
    stored.headers = {k: v for k, v in {**stored.headers, **headers}.items() if v is not None}
    notes = await notes_of(aws, web=web)
    assert any(note in found for found in notes if "is stored with" in found) == bool(note)


async def test_a_release_without_anything_to_compare_with_is_no_obstacle(aws: Aws, amazon: Amazon) -> None:
    for key in [key for key in amazon.s3.objects if key.startswith("shop/releases/2/")]:
        del amazon.s3.objects[key]
    assert len(await notes_of(aws)) == 1  # about Terraform


# --- CloudFront
async def test_a_distribution_that_is_still_deploying_is_noted(aws: Aws, amazon: Amazon) -> None:
    amazon.takes = 3600.0
    amazon.distributions["E1"].changed_at = amazon.clock()
    notes = await OriginPath.model_validate(PATH).preflight(aws, "1")
    assert "an earlier change of it is still being deployed (InProgress): edges differ until then" in notes


async def test_a_staging_distribution_is_noted(aws: Aws, amazon: Amazon) -> None:
    policy = "<ContinuousDeploymentPolicyId>P1</ContinuousDeploymentPolicyId></DistributionConfig>"
    edge = amazon.distributions["E1"]
    edge.config = edge.config.replace("</DistributionConfig>", policy)
    assert any("staging distribution" in note for note in await OriginPath.model_validate(PATH).preflight(aws, "1"))


def test_a_key_that_is_too_long_is_refused_when_it_is_configured() -> None:
    assert CloudfrontKey(kvs=ARN, key="k" * 512)
    with pytest.raises(ValueError, match="514 bytes, expected at most 512"):
        CloudfrontKey(kvs=ARN, key="ä" * 257)


# --- Fastly
async def test_a_version_that_fastly_finds_invalid_is_refused_at_planning(fastly: tuple[FakeFastly, Fastly]) -> None:
    fake, client = fastly
    version = FastlyVersion(fastly="SVC1")
    assert await version.preflight(client, 2) == ()
    fake.invalid[2] = "Backend F_origin: hostname does not resolve"
    with pytest.raises(StepFailed, match="version 2 of SVC1 invalid: Backend F_origin: hostname does not resolve"):
        await version.preflight(client, 2)
    assert fake.active == 3


@pytest.mark.parametrize(
    ("scope", "keys", "missing"),
    [
        ("purge_select global:read", ("page",), False),
        ("purge_select global:read", (), True),
        ("purge_all global:read", (), False),
        ("purge_all global:read", ("page",), True),
        ("global", (), False),
        ("global:read", ("page",), True),
    ],
)
async def test_the_scope_of_a_purge_is_the_one_that_it_needs(
    scope: str, keys: tuple[str, ...], missing: bool, fastly: tuple[FakeFastly, Fastly]
) -> None:
    fake, client = fastly
    fake.scope, purge = scope, FastlyPurge(fastly="SVC1", keys=keys, mark="e1")
    if missing:
        with pytest.raises(StepFailed, match="the Fastly token cannot purge SVC1"):
            await purge.check_access(client)
        with pytest.raises(StepFailed, match=r"\(403\)"):
            await purge.write(client, purge.reference, expected=None)
    else:
        assert await purge.check_access(client) == []
        await purge.write(client, purge.reference, expected=None)


async def test_the_hourly_limit_of_fastly_pauses_until_it_ends(
    fastly: tuple[FakeFastly, Fastly], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, client = fastly
    fake.limited, fake.resets_in = 1, 600
    with pytest.raises(Unavailable, match="429"):
        await client.write("PUT", "/service/SVC1/version/2/activate")
    with pytest.raises(Unavailable, match="retry in"):
        await client.write("PUT", "/service/SVC1/version/2/activate")
    later = time.monotonic() + 601
    monkeypatch.setattr(json_api.time, "monotonic", lambda: later)
    await client.write("PUT", "/service/SVC1/version/2/activate")
    assert fake.active == 2


async def test_the_buckets_of_the_stand_in_are_those_of_its_objects(aws: Aws) -> None:
    with pytest.raises(StepFailed, match="NoSuchBucket"):
        await aws.objects("other", "")
