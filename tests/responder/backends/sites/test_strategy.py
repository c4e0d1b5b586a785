"""A site is restored by its plan, verified at the edge, and reverted together with its cache."""

from __future__ import annotations

import functools
import hashlib
import json
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

from responder.app.loading import parse
from responder.backends.sites.cdn_client import Cloudflare
from responder.errors import ConfigError, StepFailed
from responder.rollback.plan import Gate
from responder.rollback.strategies import resources_of
from responder.rollback.strategies.frontend import Frontend
from responder.transport.aws import Aws
from tests.cdns import Amazon, FakeCloudflare
from tests.cdns.amazon import ARN
from tests.cdns.others import ZONE
from tests.cdns.site import manifest, released
from tests.parts import free_port
from tests.responder.harness import Rollback
from tests.responder.outside import serving

RELEASES = {"s3": "s3://shop/releases"}
PATH = {"origin_path": "/releases/{version}", "distribution": "E1"}
EDGE: dict[str, Any] = {"version": ["http://127.0.0.1:1/version.json"], "hold_for": "0s", "within": "3s"}
KVS = {"kvs": ARN, "key": "active"}


def frontend(**more: Any) -> dict[str, Any]:
    web = {"edge": EDGE, "pointer": PATH, "releases": RELEASES, **more.pop("web", {})}
    return {"strategy": "frontend", "web": web, **more}


def at(url: str, **more: Any) -> dict[str, Any]:
    """The version that the edge of the stand-in serves."""
    edge = f"{url}/edge/E1"
    return {**EDGE, "version": [f"{edge}/version.json"], "pages": {f"{edge}/index.html": "index.html"}, **more}


async def test_the_plan_has_the_expected_steps(aws: Aws, amazon: Amazon) -> None:
    rollback = Rollback(frontend(health_check_urls=["http://127.0.0.1:1/health"]), {Aws: aws})
    assert await rollback.steps() == [
        "cache of CloudFront distribution E1, when reverting: purged → unchanged",
        "origin path of CloudFront distribution E1: 2 → 1",
        "cache of CloudFront distribution E1: unchanged → purged",
        "edge serves 1, within 3s",
        "frontend answers, within 1m",
        "shop is healthy, within 5s",
    ]
    plan = await rollback.plan()
    (note,) = plan.notes
    assert "Terraform" in note
    assert plan.hash == (await rollback.plan()).hash
    assert amazon.distributions["E1"].invalidations == []


async def test_a_page_is_compared_with_the_release(aws: Aws, amazon_url: str) -> None:
    plan = await Rollback(frontend(web={"edge": at(amazon_url)}), {Aws: aws}).plan()
    gate = next(step for step in plan.steps if isinstance(step, Gate))
    version, page = (check.model_dump(exclude_defaults=True, mode="json") for check in gate.checks)
    assert version["fields"] == {"version": "1"}
    assert page["sha256"] == hashlib.sha256(released("1")["index.html"]).hexdigest()
    with pytest.raises(StepFailed, match=r"other\.html is not a file of release 1"):
        edge = at(amazon_url, pages={"http://127.0.0.1:1/": "other.html"})
        await Rollback(frontend(web={"edge": edge}), {Aws: aws}).plan()


async def test_the_edge_must_serve_the_good_version(aws: Aws, amazon: Amazon, amazon_url: str) -> None:
    amazon.takes = 0.3
    edge = at(amazon_url, within="9s")
    rollback = Rollback(frontend(web={"edge": edge}), {Aws: aws}, health_checks=[{"http": edge["version"][0]}])
    await rollback.gateway.holds(rollback.service.health_checks[0])  # the edge now caches the bad version
    assert amazon.distributions["E1"].cache
    ended = await rollback.run()
    assert ended.outcome == "succeeded", ended.reason
    assert [i.paths for i in amazon.distributions["E1"].invalidations] == [("/*",)]


async def test_a_stale_cache_reverts_the_rollback(aws: Aws, amazon: Amazon, amazon_url: str) -> None:
    """The API reports success, but users still get the bad version: the rollback fails."""
    edge = at(amazon_url, within="500ms")
    wanted = frontend(web={"edge": edge}, cdn_invalidation=False)
    urls = (*edge["version"], *edge["pages"])
    rollback = Rollback(wanted, {Aws: aws}, health_checks=[{"http": url} for url in urls])
    for seen in rollback.service.health_checks:
        await rollback.gateway.holds(seen)
    ended = await rollback.run()
    assert ended.outcome == "reverted"
    assert 'with version="2", expected "1"' in ended.reason
    assert "but its body has the SHA-256" in ended.reason
    assert amazon.distributions["E1"].origin_path == "/releases/2"


async def test_a_revert_purges_the_cache_after_the_path(aws: Aws, amazon: Amazon, amazon_url: str) -> None:
    edge = at(amazon_url, within="9s")
    sick = ["http://127.0.0.1:1/"]
    wanted = frontend(web={"edge": edge}, health_check_urls=sick, healthy_within="100ms")
    rollback = Rollback(wanted, {Aws: aws}, health_checks=[{"http": edge["version"][0], "fields": {"version": "2"}}])
    assert (await rollback.run()).outcome == "reverted"
    acts = [request.path.rpartition("/")[2] for request in amazon.requests if request.method in ("PUT", "POST")]
    assert acts == ["config", "invalidation", "config", "invalidation"]
    first, second = amazon.distributions["E1"].invalidations
    assert first.reference != second.reference


async def test_a_cloudfront_key_works_with_cloudflare(
    aws: Aws, amazon: Amazon, cloudflare: tuple[FakeCloudflare, Cloudflare]
) -> None:
    fake, client = cloudflare

    async def version(request: Any) -> Any:

        return web.json_response({"release": {"version": amazon.keys["active"]}})

    async with serving(version=version) as url:
        edge = {"version": [f"{url}/version"], "field": "release.version", "hold_for": "0s"}
        wanted = frontend(web={"pointer": KVS, "edge": edge}, cdn_invalidation={"cloudflare": ZONE})
        ended = await Rollback(wanted, {Aws: aws, Cloudflare: client}, health_checks=[{"http": f"{url}/version"}]).run()
    assert ended.outcome == "succeeded", ended.reason
    assert (amazon.keys, fake.purges) == ({"active": "1"}, [{"purge_everything": True}])


async def test_an_incomplete_release_changes_nothing(aws: Aws, amazon: Amazon) -> None:
    del amazon.s3.objects["shop/releases/1/sw.js"]
    for pointer in (PATH, KVS, {"object": "s3://shop/current.json"}):
        ended = await Rollback(frontend(web={"pointer": pointer}), {Aws: aws}).run()
        assert ended.outcome == "failed"
        assert "s3://shop/releases/1 is incomplete: sw.js is missing" in ended.reason
    assert not [request for request in amazon.requests if request.method in ("PUT", "POST", "DELETE")]


async def test_a_missing_distribution_fails_before_the_first_change(aws: Aws, amazon: Amazon) -> None:
    ended = await Rollback(frontend(cdn_invalidation={"cloudfront": "E9"}), {Aws: aws}).run()
    assert ended.outcome == "failed"
    assert "NoSuchDistribution" in ended.reason


# --- on this host
def local(root: Path) -> dict[str, Any]:
    for version in "12":
        for path, body in released(version).items():
            file = root / "releases" / version / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
    (root / "current").symlink_to("releases/2")
    return {"strategy": "frontend", "web": {"edge": EDGE, "local": {"root": str(root)}}}


async def test_a_local_link_is_switched(tmp_path: Path) -> None:
    rollback = Rollback(local(tmp_path), {})
    assert (await rollback.steps())[:2] == [
        f"current release of {tmp_path}: 2 → 1",
        "edge serves 1, within 3s",
    ]
    (tmp_path / "releases" / "1" / "sw.js").write_text("// another")
    (tmp_path / "releases" / "1" / "index.html").unlink()
    with pytest.raises(
        StepFailed, match=r"releases/1 differs from its build: index\.html is missing or different \(2 files\)"
    ):
        await rollback.plan()
    (tmp_path / "releases" / "1" / "manifest.json").unlink()
    (note,) = (await rollback.plan()).notes
    assert note == f"{tmp_path}/releases/1 has no manifest.json, so it is unknown whether it is complete"
    (tmp_path / "releases" / "1" / "manifest.json").write_text(manifest({"../../secret": b""}).decode())
    with pytest.raises(StepFailed, match="is not a manifest"):
        await rollback.plan()


@pytest.mark.parametrize(("stale", "ended"), [("2", "reverted"), ("1", "succeeded"), (None, "succeeded")])
async def test_every_address_of_an_edge_is_queried(
    stale: str | None, ended: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with two addresses, each with the bad version of one document: queried in turn, two requests
    at a time, that would never show. One that does not answer at all is no edge that serves anything else."""
    known, port = socket.getaddrinfo, free_port()

    def look_up(host: Any, *more: Any, **other: Any) -> Any:
        if host != "edge.test":
            return known(host, *more, **other)
        return [info for address in ("127.0.0.1", "127.0.0.2") for info in known(address, *more, **other)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    def edge(address: str, b: str) -> TestServer:
        app = web.Application()
        for name, version in (("a", "1"), ("b", b)):
            app.router.add_get(f"/{name}", functools.partial(_say, version))
        return TestServer(app, host=address, port=port)

    wanted = local(tmp_path)
    urls = [f"http://edge.test:{port}/{name}" for name in "ab"]
    wanted["web"]["edge"] = {"version": urls, "hold_for": "500ms", "within": "2s"}
    async with AsyncExitStack() as up:
        await up.enter_async_context(edge("127.0.0.2", "1"))
        if stale:
            await up.enter_async_context(edge("127.0.0.1", stale))
        rollback = Rollback(wanted, {}, health_checks=[{"http": urls[0]}])
        assert (await rollback.run()).outcome == ended, rollback.execution.reason
    if ended == "reverted":
        assert f'{urls[1]} at 127.0.0.1 answered 200 with version="2", expected "1"' in rollback.execution.reason


async def _say(version: str, request: web.Request) -> web.Response:
    return web.json_response({"version": version})


# --- configuration
@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ({"strategy": "frontend"}, "no platform"),
        (frontend(platforms=["web", "ios"]), "web, ios are listed, but configured: web"),
        (frontend(web={"pointer": None, "releases": None}), "needs exactly one of pointer, copy, local"),
        (frontend(web={"local": {"root": "/srv"}}), "needs exactly one of pointer, copy, local"),
        (frontend(web={"releases": None}), "releases: is missing"),
        (frontend(web={"pointer": {"fastly": "S"}}), "releases: belongs to a pointer in AWS"),
        (frontend(web={"pointer": KVS}, cdn_invalidation=True), "no platform names a CDN"),
        (frontend(cdn_invalidation={"akamai": "x"}), "a CDN has one of the keys cloudfront, cloudflare, fastly"),
        (frontend(web={"pointer": {"url": "x"}}), "a pointer has one of the keys kvs, origin_path, object, fastly"),
        (frontend(web={"edge": {}}), "needs at least one URL in version or pages"),
        (frontend(web={"pointer": {**PATH, "origin_path": "/releases"}}), "must contain {version} exactly once"),
        (frontend(web={"releases": {"s3": "shop/releases"}}), "String should match pattern"),
    ],
)
def test_invalid_settings_are_refused(options: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Frontend.model_validate(options)
    assert mistake in str(refused.value)


@pytest.mark.parametrize("caches", [None, True, {"cloudfront": "E1"}])
def test_the_keys_of_the_requirements_load(caches: Any) -> None:
    more = {} if caches is None else {"cdn_invalidation": caches}
    made = Frontend.model_validate(frontend(platforms=["web"], health_check_urls=["https://shop.example/"], **more))
    assert made.web is not None
    assert str(made.caches(made.web)) == "cache of CloudFront distribution E1"
    off = Frontend.model_validate(frontend(cdn_invalidation=False))
    assert off.web is not None and off.caches(off.web) is None


def test_every_resource_is_checked() -> None:
    made = Frontend.model_validate(frontend(web={"pointer": KVS}, cdn_invalidation={"cloudflare": ZONE}))
    assert {resource.client for resource in resources_of(made)} == {Aws, Cloudflare}


def test_a_cdn_needs_a_token() -> None:
    service = {
        "name": "site",
        "environment": "test",
        "rollback": frontend(web={"pointer": KVS}, cdn_invalidation={"cloudflare": ZONE}),
        "health_checks": [{"http": "http://127.0.0.1:1/"}],
    }
    config = {
        "state": "sqlite:///tmp/state.db",
        "prometheus": {"url": "http://localhost:9090"},
        "alertmanager": {"urls": ["http://localhost:9093"]},
        "services": [service],
    }
    text = json.dumps(config)  # which is YAML as well
    with pytest.raises(ConfigError, match=r"services\[0\]: needs a token \(configure cdn\.cloudflare"):
        parse(text, "r.yml", {})
